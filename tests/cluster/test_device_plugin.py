"""An accelerator of the real kubelet, offered by a device plugin: a pod really starts with it, and it is counted."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.device_plugin import VARIABLE
from cluster.errors import ClusterFault
from cluster.images import CONTAINERFILES, Recipe
from cluster.layout import IMAGE_HOST, NODE_NAME
from cluster.operator_process import OperatorProcess, running

I915 = "gpu.intel.com/i915"
PLUGIN = Path(__file__).parent / "device_plugin.py"


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    with running(cluster, tmp_path_factory.mktemp("operator")) as one:
        yield one
        assert one.defects() == ""


@pytest.fixture(scope="module")
def answering(cluster: Cluster) -> str:
    base = cluster.images.busybox()
    recipe = Recipe(f"{IMAGE_HOST}/answering:1", CONTAINERFILES / "answering.Containerfile", CONTAINERFILES,
                    {"BASE": base.reference})  # fmt: skip
    return cluster.load_image(cluster.images.build(recipe))


def offer(cluster: Cluster, count: int) -> str:
    """A plugin that offers so many; answers the process's name."""
    name = f"device-plugin-{count}"
    cluster.spawn(name, [sys.executable, str(PLUGIN), I915, str(count)])
    cluster.until(f"{count} are offered", lambda: allocatable_is(cluster, str(count)))
    return name


def allocatable_is(cluster: Cluster, count: str) -> None:
    if cluster.get(f"node/{NODE_NAME}")["status"]["allocatable"].get(I915) != count:
        raise ClusterFault(f"{NODE_NAME} does not offer {count} {I915}")


def model(image: str, **spec: Any) -> dict[str, Any]:
    location = {"uri": "s3://models/m", "versions": {"specific": [3]}}
    base = {"engine": "openvino", "image": image, "devices": [I915, "cpu"], "model": location, "fallBackAfter": "60s"}
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m"},
        "spec": {**base, **spec},
    }


def device(cluster: Cluster, namespace: str) -> str:
    return str(cluster.get("im/m", namespace)["status"]["device"])


def test_a_pod_starts_with_the_device_and_the_next_model_falls_back_until_there_is_another(
    cluster: Cluster, namespace: str, operator: OperatorProcess, answering: str
) -> None:
    plugin = offer(cluster, 1)
    cluster.apply(model(answering), namespace=namespace)
    cluster.wait("im/m", "condition=Ready", namespace)
    assert device(cluster, namespace) == I915
    (pod,) = cluster.get("pods", namespace)["items"]
    assert pod["spec"]["nodeName"] == NODE_NAME
    script = f"echo ${VARIABLE}; grep ^Groups: /proc/self/status"
    told = cluster.kubectl("exec", pod["metadata"]["name"], "--namespace", namespace, "--", "/bin/sh", "-c", script)
    given, _, groups = told.partition("\n")
    assert given == "device-0"
    assert {"44", "109", "110", "992"} <= set(groups.split())

    second = f"{namespace}-2"
    cluster.kubectl("create", "namespace", second)
    cluster.apply(model(answering, moveUpAfter="5s"), namespace=second)
    cluster.wait("im/m", "condition=Ready", second)
    assert device(cluster, second) == "cpu"
    assert f"of 1 {I915} 0 are free, 1 is needed" in cluster.get("im/m", second)["status"]["message"]

    cluster.processes.stop(plugin)
    cluster.until("the plugin is missed", lambda: allocatable_is(cluster, "0"))
    cluster.wait("im/m", "condition=Ready", namespace)  # what runs with it goes on

    plugin = offer(cluster, 2)
    cluster.wait("im/m", f"jsonpath={{.status.device}}={I915}", second, timeout_seconds=120)
    cluster.wait("im/m", "condition=Ready", second)
    cluster.kubectl("delete", "namespace", second, "--wait=false")
    cluster.processes.stop(plugin)
    cluster.until("the plugin is missed", lambda: allocatable_is(cluster, "0"))  # or later tests find its devices
