"""Scalers that cannot do their work: real definitions without KEDA's operator, and pods of which nobody has figures."""

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.fake_nodes import FakeNode
from cluster.foreign_crds import install_foreign_crds
from cluster.operator_process import OperatorProcess, running

DEVICE = "gpu.intel.com/xe"
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    install_foreign_crds(cluster)
    node = FakeNode("fake-scaled", {DEVICE: 4})
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATALAYA_PROMETHEUS_URL", "http://prometheus.monitoring:9090")
        with running(cluster, tmp_path_factory.mktemp("operator")) as one:
            yield one
            assert one.defects() == ""
    cluster.kubectl("delete", f"node/{node.name}", "--wait=false")


def model(name: str, scaling: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "engine": "openvino",
        "devices": [DEVICE],
        "model": {"uri": "s3://models/m", "versions": {"specific": [3]}},
        "resources": {"requests": {"cpu": "100m"}},
        "scaling": {"max": 2, **scaling},
    }
    metadata = {"name": name}
    return {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": metadata, "spec": spec}


def test_scalers_that_do_nothing_are_told_of_while_the_models_serve(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    cluster.apply(model("ignored", {"concurrency": 4}), namespace=namespace)
    cluster.apply(model("blind", {"cpu": "70%"}), namespace=namespace)
    for name, reason, words in (
        ("ignored", "ScalerIgnored", ("KEDA's operator is not running", "kubectl describe scaledobject ignored-")),
        ("blind", "ScalerFailing", ("Kubernetes' autoscaler says", f"kubectl top pods --namespace {namespace}")),
    ):
        condition = '{.status.conditions[?(@.type=="Autoscaling")].reason}'
        cluster.wait(f"im/{name}", f"jsonpath={condition}={reason}", namespace, timeout_seconds=PATIENCE_SECONDS)
        told = cluster.get(f"im/{name}", namespace)["status"]
        (one,) = (found for found in told["conditions"] if found["type"] == "Autoscaling")
        assert one["status"] == "False"
        for part in words:
            assert part in one["message"]
        assert told["reason"] == "Serving"
