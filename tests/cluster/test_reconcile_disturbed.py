"""The operator when its surroundings fail: the API server restarts, a model is replaced by another of its name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.fake_nodes import FakeNode
from cluster.foreign_crds import install_foreign_crds
from cluster.operator_process import OperatorProcess, running
from cluster.release_parts import stray

DEVICE = "gpu.intel.com/xe"
ROUNDS = 5
"""Of what a race may lose now and then."""


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    node = FakeNode("fake-enough", {DEVICE: 100})
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    with running(cluster, tmp_path) as one:
        yield one
    cluster.kubectl("delete", f"node/{node.name}", "--wait=false")


def apply_model(cluster: Cluster, namespace: str, **spec: Any) -> None:
    location = {"uri": "s3://models/m", "versions": {"specific": [3]}}
    model = {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m"},
        "spec": {"engine": "openvino", "devices": [DEVICE], "model": location, **spec},
    }
    cluster.apply(model, namespace=namespace)


def test_a_model_that_is_replaced_by_another_of_its_name_gets_objects_of_its_own(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    apply_model(cluster, namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    old = cluster.get("im/m", namespace)["metadata"]["uid"]
    cluster.kubectl("delete", "im/m", "--namespace", namespace)
    apply_model(cluster, namespace)

    def belongs_to_the_new_one() -> None:
        service = cluster.get("service/m", namespace)
        if service["metadata"]["ownerReferences"][0]["uid"] == old:
            raise ClusterFault("the old model's Service is still there")

    cluster.until("the Service is the new model's", belongs_to_the_new_one)
    cluster.wait("im/m", "condition=Ready", namespace)
    assert operator.defects() == ""


def test_an_api_server_that_restarts_is_waited_for(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    apply_model(cluster, namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    cluster.restart_api_server()
    cluster.kubectl("delete", "service/m-headless", "--namespace", namespace)
    apply_model(cluster, namespace, batching={"maxSize": 4})
    cluster.wait("service/m-headless", "create", namespace, timeout_seconds=120)
    cluster.wait("im/m", "condition=Ready", namespace, timeout_seconds=120)
    assert operator.stop() == 0


def test_a_kind_that_is_installed_later_is_made_use_of_and_one_that_goes_is_missed_by_nobody(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    cluster.kubectl("delete", "crd", "podmonitors.monitoring.coreos.com", "--ignore-not-found")
    apply_model(cluster, namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    name = cluster.get("deployments", namespace)["items"][0]["metadata"]["name"]
    install_foreign_crds(cluster)
    cluster.wait(f"podmonitor/{name}", "create", namespace)
    cluster.kubectl("delete", "crd", "podmonitors.monitoring.coreos.com")
    apply_model(cluster, namespace, batching={"maxSize": 4})
    cluster.wait("im/m", "condition=Ready", namespace)
    assert operator.defects() == ""


def test_a_kind_that_comes_again_is_watched_from_the_first_object_on(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    apply_model(cluster, namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    owner = cluster.get("im/m", namespace)["metadata"]["uid"]
    unwanted = stray("monitoring.coreos.com/v1", "PodMonitor", owner, model="m")
    for _ in range(ROUNDS):
        cluster.kubectl("delete", "crd", "podmonitors.monitoring.coreos.com", "--ignore-not-found")
        install_foreign_crds(cluster)
        cluster.apply(unwanted, namespace=namespace)
        cluster.wait("podmonitors.monitoring.coreos.com/stray", "delete", namespace, timeout_seconds=20)
    assert operator.defects() == ""


def test_models_are_looked_after_however_often_their_definition_is_made_again(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    for _ in range(ROUNDS):
        apply_model(cluster, namespace)
        cluster.wait("im/m", "condition=Ready", namespace)
        cluster.kubectl("delete", "crd", "inferencemodels.serving.atalaya.dev")
        cluster.wait("service/m", "delete", namespace)
        install_crds(cluster)
    assert operator.defects() == ""
