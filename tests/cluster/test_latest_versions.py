"""`latest` on a real cluster: a pod asks a real store, its newest version serves, and failures harm nobody.

All of it runs: our image, from the Containerfile that users build, lists, fetches and serves on the real node.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brightness_model import write_brightness_model
from builders_fetching import files_in
from cluster import product_images
from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.layout import NODE_ADDRESS, REGISTRY_PORT
from cluster.oci_artifacts import Repository
from cluster.operator_process import OperatorProcess, running
from cluster.real_node import REGISTRY_ADDRESS
from cluster.s3_server import S3Server, s3_server_inside

SOURCE = "s3://models/brightness"
LISTING_SECONDS = 5
READY_SECONDS = 240


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    product_images.push(cluster, product_images.SERVING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATALAYA_LISTING_SECONDS", str(LISTING_SECONDS))
        with running(cluster, tmp_path_factory.mktemp("operator")) as one:
            yield one
            assert one.defects() == ""


@pytest.fixture(scope="module")
def store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server_inside(cluster, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def emptied(store: S3Server) -> Iterator[None]:
    yield
    store.remove("brightness")


def version(folder: Path, number: int) -> dict[str, bytes]:
    """The files of a version, its manifest last."""
    files = files_in(write_brightness_model(folder, number, factor=1 / number))
    return {**{path: files[path] for path in files if path != "manifest.yaml"}, "manifest.yaml": files["manifest.yaml"]}


def secret(store: S3Server | None = None, **changed: str) -> dict[str, Any]:
    data = {**(store.environment if store else {}), **changed}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": data}


def model(uri: str = SOURCE, **spec: Any) -> dict[str, Any]:
    """As little as a user writes: the highest version is the default."""
    location = {"uri": uri, **({} if uri.startswith("pvc") else {"credentialsSecret": "store"})}
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "brightness"},
        "spec": {"engine": "atalaya", "model": location, **spec},
    }


def status(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return dict(cluster.get("im/brightness", namespace).get("status") or {})


def condition(cluster: Cluster, namespace: str, kind: str) -> dict[str, str]:
    told = status(cluster, namespace).get("conditions") or ()
    return next((one for one in told if one["type"] == kind), {"status": "", "reason": "", "message": ""})


def serves(cluster: Cluster, namespace: str, number: int) -> None:
    """Until the model is ready with this version, as its status says and as a client sees."""
    told = f"jsonpath={{.status.version}}={number}"
    cluster.wait("im/brightness", told, namespace, timeout_seconds=READY_SECONDS)
    cluster.wait("im/brightness", "condition=Ready", namespace, timeout_seconds=READY_SECONDS)
    with cluster.port_forward("service/brightness", 8000, namespace) as port:
        path = f"http://127.0.0.1:{port}/v2/models/brightness"
        with urllib.request.urlopen(path, timeout=10) as answer:
            assert json.load(answer)["versions"] == [str(number)]


def until(cluster: Cluster, what: str, holds: Any, timeout_seconds: float = 90) -> None:
    def attempt() -> None:
        if not holds():
            raise ClusterFault(what)

    cluster.until(what, attempt, timeout_seconds)


def planned(cluster: Cluster, namespace: str, folder: Path) -> set[str]:
    """What `atalaya plan --diff` says would become of the model's objects."""
    (folder / "model.json").write_text(json.dumps(model()))
    command = [sys.executable, "-m", "atalaya", "plan", "--diff", "--json", "--namespace", namespace]
    done = subprocess.run([*command, str(folder / "model.json")], env=cluster.environment, check=True,
                          capture_output=True, text=True)  # fmt: skip
    (told,) = json.loads(done.stdout)["models"]
    return {change["verdict"] for change in told["changes"]}


def test_a_minimal_file_serves_the_highest_version_and_a_newer_one_takes_over(
    cluster: Cluster, namespace: str, operator: OperatorProcess, store: S3Server, tmp_path: Path
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    store.put("brightness/3", version(tmp_path, 3))
    cluster.apply(secret(store), model(), namespace=namespace)
    serves(cluster, namespace, 3)
    assert condition(cluster, namespace, "VersionsKnown")["status"] == "True"
    (known,) = status(cluster, namespace)["resolved"]["versions"]
    assert known["digest"].startswith("sha256:")
    shown = lambda: '"versions":[3]' in cluster.kubectl("logs", "brightness-versions", "--namespace", namespace)  # noqa: E731
    until(cluster, "the log shows what was found", shown)  # the pod is made anew every few seconds

    store.put("brightness/4", version(tmp_path, 4))
    serves(cluster, namespace, 4)

    operator.kill()
    before = status(cluster, namespace)
    objects = cluster.kubectl("get", "deployments,services", "--namespace", namespace, "--output=name")
    store.put("brightness/5", version(tmp_path, 5))
    time.sleep(2 * LISTING_SECONDS)
    assert status(cluster, namespace) == before
    operator.start()
    time.sleep(1)
    assert status(cluster, namespace)["version"] == "4"  # until 5 answers
    serves(cluster, namespace, 5)
    assert cluster.kubectl("get", "deployments,services", "--namespace", namespace, "--output=name") != objects
    until(cluster, "one revision is left", lambda: len(cluster.get("deployments", namespace)["items"]) == 1)


def test_a_restart_of_the_operator_rolls_nothing(
    cluster: Cluster, namespace: str, operator: OperatorProcess, store: S3Server, tmp_path: Path
) -> None:
    store.put("brightness/3", version(tmp_path, 3))
    cluster.apply(secret(store), model(), namespace=namespace)
    serves(cluster, namespace, 3)
    assert planned(cluster, namespace, tmp_path) == {"unchanged"}
    uids = [one["metadata"]["uid"] for one in cluster.get("deployments", namespace)["items"]]
    for _ in range(3):
        operator.kill()
        operator.start()
        time.sleep(2)
    time.sleep(2 * LISTING_SECONDS)
    assert [one["metadata"]["uid"] for one in cluster.get("deployments", namespace)["items"]] == uids
    assert condition(cluster, namespace, "Ready")["status"] == "True"


def test_a_store_that_refuses_is_told_and_takes_nothing_down_and_a_repair_is_seen(
    cluster: Cluster, namespace: str, operator: OperatorProcess, store: S3Server, tmp_path: Path
) -> None:
    store.put("brightness/3", version(tmp_path, 3))
    cluster.apply(secret(store, AWS_SECRET_ACCESS_KEY="wrong"), model(), namespace=namespace)
    cluster.wait("im/brightness", "jsonpath={.status.reason}=BadCredentials", namespace, timeout_seconds=READY_SECONDS)
    told = status(cluster, namespace)
    assert f"{SOURCE} refuses these credentials (SignatureDoesNotMatch)" in told["message"]
    assert told["nextStep"]
    assert cluster.get("deployments", namespace)["items"] == []
    cluster.apply(secret(store), namespace=namespace)
    serves(cluster, namespace, 3)

    cluster.apply(secret(store, AWS_SECRET_ACCESS_KEY="wrong"), namespace=namespace)
    cluster.kubectl("delete", "pod/brightness-versions", "--namespace", namespace)
    refused = lambda: condition(cluster, namespace, "VersionsKnown")["reason"] == "BadCredentials"  # noqa: E731
    until(cluster, "the refusal is told", refused)
    assert condition(cluster, namespace, "Ready")["status"] == "True"
    assert status(cluster, namespace)["reason"] == "Serving"
    cluster.apply(secret(store), namespace=namespace)
    known = lambda: condition(cluster, namespace, "VersionsKnown")["status"] == "True"  # noqa: E731
    until(cluster, "the repair is seen", known, timeout_seconds=180)


def test_a_model_that_is_not_there_is_told_and_comes_when_it_is_put_there(
    cluster: Cluster, namespace: str, operator: OperatorProcess, store: S3Server, tmp_path: Path
) -> None:
    cluster.apply(secret(store), model(), namespace=namespace)
    reason = "jsonpath={.status.reason}=ModelPathNotFound"
    cluster.wait("im/brightness", reason, namespace, timeout_seconds=READY_SECONDS)
    store.put("brightness/7", version(tmp_path, 7))
    serves(cluster, namespace, 7)


def test_a_claim_is_asked_in_the_same_way(
    cluster: Cluster, namespace: str, operator: OperatorProcess, tmp_path: Path
) -> None:
    shared = cluster.layout.run / f"claim-{namespace}"
    (shared / "models").mkdir(parents=True)
    write_brightness_model(shared / "models", 3)
    size = {"storage": "1Gi"}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace},
              "spec": {"capacity": size, "accessModes": ["ReadOnlyMany"], "storageClassName": namespace,
                       "hostPath": {"path": str(shared)}}}  # fmt: skip
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"},
             "spec": {"accessModes": ["ReadOnlyMany"], "storageClassName": namespace,
                      "resources": {"requests": size}}}  # fmt: skip
    cluster.apply(volume)
    cluster.apply(claim, model("pvc://shared/models/brightness"), namespace=namespace)
    serves(cluster, namespace, 3)
    write_brightness_model(shared / "models", 4)
    serves(cluster, namespace, 4)
    cluster.kubectl("delete", f"persistentvolume/{namespace}", "--wait=false")


def test_tags_of_a_registry_are_versions_and_are_fetched_by_their_digest(
    cluster: Cluster, namespace: str, operator: OperatorProcess, tmp_path: Path
) -> None:
    outside = Repository(f"127.0.0.1:{cluster.forward(NODE_ADDRESS, REGISTRY_PORT)}", "models/brightness")
    outside.push("3", version(tmp_path, 3))
    uri = f"oci://{REGISTRY_ADDRESS}/models/brightness"
    cluster.apply(secret(OCI_PLAIN_HTTP="true"), model(uri), namespace=namespace)
    serves(cluster, namespace, 3)
    (known,) = status(cluster, namespace)["resolved"]["versions"]
    (deployment,) = cluster.get("deployments", namespace)["items"]
    (fetch,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert f"--digest=3={known['digest']}" in fetch["args"]
