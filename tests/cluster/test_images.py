"""Images are built from Containerfiles, cached by content, loaded onto the node or pulled from a real registry."""

from pathlib import Path

import pytest

from cluster.access import Cluster
from cluster.errors import ClusterFault
from cluster.images import Image, Recipe
from cluster.workloads import container, pod

CONTAINERFILE = """ARG BASE=scratch
FROM $BASE
ARG GREETING
COPY words.txt /words.txt
RUN echo "$GREETING" >> /words.txt
CMD ["/bin/cat", "/words.txt"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    (tmp_path / "words.txt").write_text("copied\n")
    return tmp_path


def recipe(context: Path, greeting: str = "run") -> Recipe:
    arguments = {"BASE": "atalaya.test/busybox:1", "GREETING": greeting}
    return Recipe("atalaya.test/greeter:1", context / "Containerfile", context, arguments)


def test_a_users_containerfile_is_built_on_a_stand_in_base_and_runs(
    cluster: Cluster, namespace: str, context: Path
) -> None:
    cluster.images.busybox()
    built = cluster.images.build(recipe(context))
    cluster.apply(pod("greeter", container(cluster.load_image(built), imagePullPolicy="Never")), namespace=namespace)
    cluster.wait("pod/greeter", "jsonpath={.status.phase}=Succeeded", namespace)
    assert cluster.kubectl("logs", "greeter", "--namespace", namespace).split() == ["copied", "run"]


def test_debians_python_stands_in_for_the_base_image_that_cannot_be_pulled(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    base = cluster.images.base()
    (tmp_path / "Containerfile").write_text("ARG BASE=scratch\nFROM $BASE\nRUN python3 -m venv /venv\n")
    stand_in = {"BASE": base.reference}
    built = cluster.images.build(Recipe("atalaya.test/app:1", tmp_path / "Containerfile", tmp_path, stand_in))
    says = ("/venv/bin/python", "-c", "import sys; print(sys.version_info[:2])")
    cluster.apply(pod("python", container(cluster.load_image(built), says)), namespace=namespace)
    cluster.wait("pod/python", "jsonpath={.status.phase}=Succeeded", namespace)
    assert cluster.kubectl("logs", "python", "--namespace", namespace).strip() == "(3, 11)"


def test_an_image_is_built_again_only_when_something_in_it_changed(context: Path) -> None:
    first = recipe(context).digest()
    assert recipe(context).digest() == first
    assert recipe(context, greeting="other").digest() != first
    (context / "words.txt").write_text("changed\n")
    assert recipe(context).digest() != first


def test_the_second_build_of_the_same_is_the_archive_of_the_first(cluster: Cluster, context: Path) -> None:
    cluster.images.busybox()
    first = cluster.images.build(recipe(context))
    made = first.archive.stat().st_mtime_ns
    assert cluster.images.build(recipe(context)) == first
    assert first.archive.stat().st_mtime_ns == made


def test_a_containerfile_that_fails_is_told_with_what_the_builder_said(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY absent /absent\n")
    with pytest.raises(ClusterFault, match="absent"):
        cluster.images.build(Recipe("atalaya.test/broken:1", tmp_path / "Containerfile", tmp_path))


def test_an_image_of_any_registry_is_pulled_from_the_clusters_own(cluster: Cluster, namespace: str) -> None:
    cluster.push_image(cluster.images.busybox(), "vendor/engine:2026.3")
    cluster.apply(pod("pulls", container("vendor/engine:2026.3", imagePullPolicy="Always")), namespace=namespace)
    cluster.wait("pod/pulls", "condition=Ready", namespace)
    running = cluster.get("pod/pulls", namespace)["status"]["containerStatuses"][0]
    assert "@sha256:" in running["imageID"]


def test_an_image_that_is_not_found_is_a_404_of_the_registry(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("absent", container("vendor/engine:no-such-tag")), namespace=namespace)
    event = cluster.wait_for_event(namespace, lambda event: event.reason == "Failed" and "vendor" in event.message)
    assert "vendor/engine:no-such-tag: not found" in event.message
    cluster.wait("pod/absent", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull", namespace)


def test_pushing_what_was_never_built_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(ClusterFault, match="never-built"):
        cluster.push_image(Image("atalaya.test/never-built:1", Path("absent.tar")), "vendor/never:1")
