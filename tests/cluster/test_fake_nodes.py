"""The real scheduler places pods on accelerator nodes by resource, label and taint; KWOK plays those nodes."""

from collections.abc import Iterator

import pytest

from cluster.access import Cluster
from cluster.fake_nodes import FakeNode
from cluster.layout import NODE_NAME
from cluster.workloads import container, pod, toleration

NO_SUCH_IMAGE = "engine.example/not-there:1"  # a fake node pulls nothing


def asking_for(name: str, resource: str, *, count: int = 1, tolerant: bool = True) -> dict[str, object]:
    main = container(NO_SUCH_IMAGE, resources={"limits": {resource: str(count)}})
    return pod(name, main, tolerations=[toleration(resource)] if tolerant else [])


@pytest.fixture
def untainted_node(cluster: Cluster) -> Iterator[FakeNode]:
    node = FakeNode("fake-mig", {"nvidia.com/mig-1g.5gb": 1}, {"zone": "north"}, tainted=False)
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    yield node
    cluster.kubectl("delete", f"node/{node.name}", "--wait=false")


@pytest.mark.parametrize(
    ("resource", "node"),
    [
        pytest.param("gpu.intel.com/xe", "fake-intel-gpu", id="intel-gpu"),
        pytest.param("nvidia.com/gpu", "fake-nvidia-gpu", id="nvidia-gpu"),
        pytest.param("npu.intel.com/accel", "fake-intel-npu", id="intel-npu"),
    ],
)
def test_a_pod_goes_to_the_node_with_its_accelerator(
    cluster: Cluster, namespace: str, resource: str, node: str
) -> None:
    cluster.apply(asking_for("wants", resource), namespace=namespace)
    cluster.wait("pod/wants", "condition=Ready", namespace)
    assert cluster.get("pod/wants", namespace)["spec"]["nodeName"] == node


def test_a_pod_that_does_not_tolerate_the_taint_stays_pending_with_the_reason(cluster: Cluster, namespace: str) -> None:
    cluster.apply(asking_for("shy", "nvidia.com/gpu", tolerant=False), namespace=namespace)
    event = cluster.wait_for_event(namespace, lambda event: event.reason == "FailedScheduling")
    assert "untolerated taint" in event.message
    assert cluster.get("pod/shy", namespace)["status"]["phase"] == "Pending"


def test_a_pod_waits_when_all_accelerators_are_in_use(cluster: Cluster, namespace: str) -> None:
    cluster.apply(asking_for("first", "gpu.intel.com/xe", count=2), namespace=namespace)
    cluster.wait("pod/first", "condition=Ready", namespace)
    cluster.apply(asking_for("second", "gpu.intel.com/xe"), namespace=namespace)
    event = cluster.wait_for_event(namespace, lambda event: event.reason == "FailedScheduling")
    assert "Insufficient gpu.intel.com/xe" in event.message
    cluster.kubectl("delete", "pod/first", "--namespace", namespace)
    cluster.wait("pod/second", "condition=Ready", namespace)


def test_a_node_added_later_takes_what_waited(cluster: Cluster, namespace: str, untainted_node: FakeNode) -> None:
    cluster.apply(asking_for("slice", "nvidia.com/mig-1g.5gb", tolerant=False), namespace=namespace)
    cluster.wait("pod/slice", "condition=Ready", namespace)
    assert cluster.get("pod/slice", namespace)["spec"]["nodeName"] == untainted_node.name


def test_a_pod_without_an_accelerator_stays_on_the_real_node(cluster: Cluster, namespace: str) -> None:
    image = cluster.load_image(cluster.images.busybox())
    cluster.apply(pod("plain", container(image)), namespace=namespace)
    cluster.wait("pod/plain", "condition=Ready", namespace)
    assert cluster.get("pod/plain", namespace)["spec"]["nodeName"] == NODE_NAME
