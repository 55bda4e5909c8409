"""What our own image says of a model and a real store becomes the status: it fetches, it loads, it fails for real."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brightness_model import write_brightness_model
from builders_fetching import files_in
from cluster import product_images
from cluster.access import Cluster
from cluster.chronicle import chronicle
from cluster.crd import install_crds
from cluster.operator_process import OperatorProcess, running
from cluster.s3_server import SECRET_KEY, S3Server, s3_server_inside

Files = dict[str, bytes]
READY_SECONDS = 240


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    product_images.push(cluster, product_images.SERVING)
    with running(cluster, tmp_path_factory.mktemp("operator")) as one:
        yield one
        assert one.defects() == ""


@pytest.fixture(scope="module")
def store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server_inside(cluster, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def good(tmp_path: Path) -> Files:
    return dict(files_in(write_brightness_model(tmp_path, 3, factor=0.5)))


def secret(store: S3Server, **changed: str) -> dict[str, Any]:
    data = {**store.environment, **changed}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": data}


def model(namespace: str) -> dict[str, Any]:
    location = {"uri": f"s3://models/{namespace}", "credentialsSecret": "store", "versions": {"specific": [3]}}
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m"},
        "spec": {"engine": "atalaya", "model": location},
    }


def without_model(files: Files) -> Files:
    return {}


def shorter(files: Files) -> Files:
    """Not what its manifest tells of."""
    return {**files, "model.bin": files["model.bin"][:-1]}


def garbage(files: Files) -> Files:
    """Fetched as it is, for nothing tells what it should be; the server cannot read it."""
    return {"model.xml": b"garbage", "model.bin": files["model.bin"]}


@dataclass(frozen=True)
class Trouble:
    """What is wrong in the store or the Secret, and what is to be told of it."""

    reason: str
    evidence: str
    step: str
    spoil: Callable[[Files], Files] = dict
    key: str = SECRET_KEY


TROUBLES = {
    "no-such-version": Trouble(
        "ModelPathNotFound", "version 3 is not there", "put the version's files below", without_model
    ),
    "shorter": Trouble("ModelFileCorrupt", "did not get the model", "export the model again", shorter),
    "garbage": Trouble("ModelFileCorrupt", "is not a model that OpenVINO can read", "export the model again", garbage),
    "wrong-key": Trouble(
        "BadCredentials", "SignatureDoesNotMatch", "put the right keys into Secret store", key="wrong"
    ),
}


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("trouble", [pytest.param(one, id=name) for name, one in TROUBLES.items()])
def test_a_model_that_cannot_be_had_is_explained_and_serves_when_the_store_is_mended(
    cluster: Cluster, namespace: str, store: S3Server, good: Files, trouble: Trouble
) -> None:
    store.put(f"{namespace}/2", good)
    store.put(f"{namespace}/3", trouble.spoil(good))
    with chronicle(cluster, namespace, ("pods", "inferencemodels")) as seen:
        cluster.apply(secret(store, AWS_SECRET_ACCESS_KEY=trouble.key), model(namespace), namespace=namespace)
        told = seen.first("inferencemodels", lambda one: (one.get("status") or {}).get("reason") == trouble.reason)
        status = told.object["status"]
        assert trouble.evidence in status["message"], status["message"]
        assert trouble.step in status["nextStep"]
        store.remove(f"{namespace}/3")
        store.put(f"{namespace}/3", good)
        cluster.apply(secret(store), namespace=namespace)
        cluster.kubectl("delete", "pods", "--all", "--namespace", namespace, "--grace-period=1")
        cluster.wait("im/m", "condition=Ready", namespace, timeout_seconds=READY_SECONDS)
        assert cluster.get("im/m", namespace)["status"]["reason"] == "Serving"
