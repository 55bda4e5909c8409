"""A real API server takes every object of every golden model, and its pods under restricted Pod Security."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from atalaya_operator.kinds import OWNED
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import FIELD_MANAGER
from builders_operator import CASES, Case
from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.foreign_crds import install_foreign_crds


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that refuses pods which are not restricted, with the account that the models' pods run as."""
    install_crds(cluster)
    install_foreign_crds(cluster)
    name = "restricted-models"
    label = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
    for account in ("default", "haiti-damage-server"):
        cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}, namespace=name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def in_namespace(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def dry_run(cluster: Cluster, manifests: list[dict[str, Any]]) -> str:
    """Server-side apply as the operator does it; field by field strict, nothing kept. Tells each object."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    told = cluster.try_kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", f"--field-manager={FIELD_MANAGER}",
        "--filename=-", stdin=text, timeout_seconds=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "would violate PodSecurity" not in told.stderr
    assert "Warning" not in told.stderr, told.stderr
    return told.stdout


def test_every_object_of_every_golden_model_is_taken(cluster: Cluster, restricted: str) -> None:
    subjects = {name: Subject(case.model, uid="00000000-0000-0000-0000-000000000001") for name, case in CASES.items()}
    manifests = [in_namespace(one, restricted) for name, case in CASES.items() for one in case.objects(subjects[name])]
    told = dry_run(cluster, manifests)
    assert len(told.splitlines()) == len(manifests) > 120


def test_every_pod_of_every_golden_model_is_taken_under_restricted_pod_security(
    cluster: Cluster, restricted: str
) -> None:
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": restricted, "labels": case.revision.template["metadata"]["labels"]},
            "spec": case.revision.template["spec"],
        }
        for name, case in CASES.items()
    ]
    assert len(dry_run(cluster, pods).splitlines()) == len(CASES)


def test_a_pod_that_is_not_restricted_would_be_refused_there(cluster: Cluster, restricted: str) -> None:
    """What the test above rests on."""
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": restricted},
           "spec": {"containers": [{"name": "c", "image": "i"}]}}  # fmt: skip
    with pytest.raises((ClusterFault, AssertionError), match="violates PodSecurity"):
        dry_run(cluster, [bad])


@pytest.mark.parametrize(
    ("engine", "device", "node"),
    [
        pytest.param("openvino", "gpu.intel.com/xe", "fake-intel-gpu", id="intel-gpu"),
        pytest.param("openvino", "npu.intel.com/accel", "fake-intel-npu", id="intel-npu"),
        pytest.param("tensorflow", "nvidia.com/gpu", "fake-nvidia-gpu", id="nvidia-gpu"),
    ],
)
def test_a_models_pods_are_placed_on_a_node_with_its_device_and_its_service_finds_them(
    cluster: Cluster, namespace: str, engine: str, device: str, node: str
) -> None:
    case = Case({"engine": engine, "devices": [device]})
    cluster.apply(*(in_namespace(one, namespace) for one in case.objects()))
    cluster.wait(f"deployment/{case.revision.name}", "condition=Available", namespace)
    (pod,) = cluster.get("pods", namespace)["items"]
    assert pod["spec"]["nodeName"] == node
    (endpoints, *_) = [
        one
        for one in cluster.get("endpointslices", namespace)["items"]
        if one["metadata"]["labels"]["kubernetes.io/service-name"] == "haiti-damage"
    ]
    assert [one["targetRef"]["name"] for one in endpoints["endpoints"]] == [pod["metadata"]["name"]]


def test_applying_the_same_objects_again_changes_nothing(cluster: Cluster, restricted: str) -> None:
    """No write at rest rests on this: what we apply is what the API server keeps of our fields."""
    case = CASES["openvino-cpu-oci-bridge"]
    manifests = [in_namespace(one, restricted) for one in case.objects()]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    apply = ("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-", "--output=json")

    def versions() -> dict[str, str]:
        items = json.loads(cluster.kubectl(*apply, stdin=text))["items"]
        return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["generation" if "generation" in
                one["metadata"] else "resourceVersion"] for one in items}  # fmt: skip

    first = versions()
    assert versions() == first
    assert len(first) == len(manifests)


def test_the_cluster_knows_every_kind_by_the_name_that_we_use(cluster: Cluster, restricted: str) -> None:
    for kind in OWNED:
        told = cluster.kubectl("api-resources", f"--api-group={kind.group}", "--no-headers").splitlines()
        (row,) = [line.split() for line in told if line.split()[-1] == kind.name]
        assert (row[0], row[-3]) == (kind.plural, kind.api_version)
