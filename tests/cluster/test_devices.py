"""Which device a model is given, with the real scheduler: KWOK plays nodes with accelerators that come, fill and go.

The real node is cordoned meanwhile, and a node of KWOK's with cores only takes its place.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.access import Cluster
from cluster.crd import install_crds
from cluster.errors import ClusterFault
from cluster.fake_nodes import KWOK_ANNOTATION, FakeNode
from cluster.layout import NODE_NAME
from cluster.operator_process import USER, OperatorProcess, running
from cluster.workloads import container, pod, toleration

I915, CPU = "gpu.intel.com/i915", "cpu"
MIG, SHARED, NVIDIA = "nvidia.com/mig-1g.5gb", "nvidia.com/gpu.shared", "nvidia.com/gpu"
AddNode = Callable[..., str]


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    install_crds(cluster)
    # Those of tests before, whose namespaces are still going: one with a choice would have the operator look at others.
    cluster.kubectl("delete", "im", "--all", "--all-namespaces")
    cores = FakeNode("fake-cores")
    cluster.apply(cores.manifest())
    cluster.wait(f"node/{cores.name}", "condition=Ready")
    cluster.kubectl("cordon", NODE_NAME)
    try:
        with running(cluster, tmp_path_factory.mktemp("operator")) as one:
            yield one
            assert one.defects() == ""
    finally:
        cluster.kubectl("uncordon", NODE_NAME)
        cluster.kubectl("delete", f"node/{cores.name}", "--wait=false")


@pytest.fixture
def add_node(cluster: Cluster, namespace: str, operator: OperatorProcess) -> Iterator[AddNode]:
    """Adds a node for one test; what runs there goes before it."""
    added = []

    def add(name: str, *taints: str, cpu: str = "32", **resources: int) -> str:
        short = {"i915": I915, "npu": "npu.intel.com/accel", "mig": MIG, "shared": SHARED}
        node = FakeNode(name, {short[key]: count for key, count in resources.items()}, tainted=False, cpu=cpu)
        manifest = node.manifest()
        manifest["spec"]["taints"] = [{"key": key, "value": "present", "effect": "NoSchedule"} for key in taints]
        cluster.apply(manifest)
        added.append(name)
        cluster.wait(f"node/{name}", "condition=Ready")
        return name

    yield add
    cluster.kubectl("delete", "im", "--all", "--namespace", namespace)
    for kind in ("deployments", "pods"):  # the garbage collector would do so, later than the next test begins
        cluster.kubectl("delete", kind, "--all", "--namespace", namespace, "--force", "--grace-period=0")
    for name in added:
        cluster.kubectl("delete", f"node/{name}", "--ignore-not-found")


def apply_model(cluster: Cluster, namespace: str, name: str = "m", **spec: Any) -> None:
    location = {"uri": "s3://models/m", "versions": {"specific": [3]}}
    base = {"engine": "openvino", "devices": [I915, CPU], "model": location, "fallBackAfter": "3s"}
    model = {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }
    cluster.apply(model, namespace=namespace)


def serves_on(cluster: Cluster, namespace: str, device: str, name: str = "m", timeout_seconds: float = 60) -> None:
    """Wait for a model to serve on a device, all of it."""
    path = f"jsonpath={{.status.device}}={device}"
    cluster.wait(f"im/{name}", path, namespace, timeout_seconds=timeout_seconds)
    cluster.wait(f"im/{name}", "condition=Ready", namespace)


def status(cluster: Cluster, namespace: str, name: str = "m") -> dict[str, Any]:
    return dict(cluster.get(f"im/{name}", namespace)["status"])


def condition(cluster: Cluster, namespace: str, kind: str) -> dict[str, Any]:
    return next(dict(one) for one in status(cluster, namespace)["conditions"] if one["type"] == kind)


def until(cluster: Cluster, what: str, holds: Callable[[], bool]) -> None:
    def attempt() -> None:
        if not holds():
            raise ClusterFault(what)

    cluster.until(what, attempt)


def take(cluster: Cluster, namespace: str, resource: str, count: int) -> None:
    """Somebody else's pod with accelerators."""
    holding = container("engine.example/not-there:1", resources={"limits": {resource: str(count)}})
    cluster.apply(pod("theirs", holding, tolerations=[toleration(resource)]), namespace=namespace)
    cluster.wait("pod/theirs", "condition=Ready", namespace)


def nodes_of(cluster: Cluster, namespace: str) -> set[str]:
    return {one["spec"].get("nodeName", "") for one in cluster.get("pods", namespace)["items"]}


def watches_of_foreign_pods(cluster: Cluster) -> int:
    """How often the operator began to look at pods that are not its models', by the API server's own record."""
    asked = ("labelSelector=%21serving.atalaya.dev%2Fmodel", f'"username":"{USER}"')
    lines = cluster.layout.audit_log.read_text().splitlines()
    return sum(all(words in line for words in asked) for line in lines)


def test_pods_of_others_are_looked_at_from_the_first_model_on_that_has_a_choice(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    operator.kill()
    operator.start()
    before = watches_of_foreign_pods(cluster)
    apply_model(cluster, namespace, devices=[CPU])
    serves_on(cluster, namespace, CPU)
    assert watches_of_foreign_pods(cluster) == before
    apply_model(cluster, namespace, "chooses")
    serves_on(cluster, namespace, CPU, "chooses")
    assert watches_of_foreign_pods(cluster) > before


def test_without_a_gpu_it_is_on_cores_and_says_why(cluster: Cluster, namespace: str, operator: OperatorProcess) -> None:
    apply_model(cluster, namespace)
    serves_on(cluster, namespace, CPU)
    assert f"no node offers {I915}" in status(cluster, namespace)["message"]
    told = condition(cluster, namespace, "PreferredDevice")
    assert (told["status"], told["reason"]) == ("False", "OtherChoice")


def test_a_free_gpu_is_taken_and_its_taint_tolerated(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    node = add_node("fake-i915", I915, i915=1)
    apply_model(cluster, namespace)
    serves_on(cluster, namespace, I915)
    assert nodes_of(cluster, namespace) == {node}
    assert condition(cluster, namespace, "PreferredDevice")["status"] == "True"


def test_a_full_gpu_is_passed_over_and_taken_when_it_comes_free(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-i915", I915, i915=1)
    take(cluster, namespace, I915, 1)
    apply_model(cluster, namespace, moveUpAfter="5s")
    apply_model(cluster, namespace, "stays")
    for name in ("m", "stays"):
        serves_on(cluster, namespace, CPU, name)
        assert f"of 1 {I915} 0 are free, 1 is needed" in status(cluster, namespace, name)["message"]
    cluster.kubectl("delete", "pod/theirs", "--namespace", namespace)
    serves_on(cluster, namespace, I915)
    assert status(cluster, namespace, "stays")["device"] == CPU


def test_a_gpu_behind_a_foreign_taint_is_passed_over_and_the_taint_named(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-i915", "dedicated", i915=1)
    apply_model(cluster, namespace, moveUpAfter="1s")
    serves_on(cluster, namespace, CPU)
    assert "fake-i915 has the taint dedicated=present:NoSchedule" in status(cluster, namespace)["message"]
    cluster.kubectl("taint", "node", "fake-i915", "dedicated-")
    serves_on(cluster, namespace, I915)


def test_a_gpu_that_is_added_later_is_moved_up_to_without_an_outage(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    apply_model(cluster, namespace, moveUpAfter="2s", replicas=2)
    serves_on(cluster, namespace, CPU)
    since = condition(cluster, namespace, "Available")["lastTransitionTime"]
    add_node("fake-i915", i915=2)
    serves_on(cluster, namespace, I915)
    available = condition(cluster, namespace, "Available")
    assert (available["status"], available["lastTransitionTime"]) == ("True", since)
    until(cluster, "one revision is left", lambda: len(cluster.get("deployments", namespace)["items"]) == 1)


def test_a_gpu_whose_node_is_lost_is_left(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    """Nobody plays its kubelet any more, and the node says what the node controller says of one that is lost."""
    node = add_node("fake-i915", i915=1)
    apply_model(cluster, namespace)
    serves_on(cluster, namespace, I915)
    cluster.kubectl("annotate", f"node/{node}", f"{KWOK_ANNOTATION}-")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now}
    lost = json.dumps({"status": {"conditions": [ready]}})
    cluster.kubectl("patch", f"node/{node}", "--subresource=status", "--type=strategic", f"--patch={lost}")
    serves_on(cluster, namespace, CPU, timeout_seconds=120)
    told = condition(cluster, namespace, "PreferredDevice")["message"]
    assert f"{I915} gave too few pods a place within 3 s" in told


def test_a_gpu_whose_node_is_removed_is_left(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    node = add_node("fake-i915", i915=1)
    apply_model(cluster, namespace)
    serves_on(cluster, namespace, I915)
    cluster.kubectl("delete", f"node/{node}")
    serves_on(cluster, namespace, CPU, timeout_seconds=120)


def test_in_a_mixed_cluster_the_first_that_holds_all_replicas_is_taken(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-small", I915, i915=1)
    add_node("fake-cordoned", I915, i915=8)
    cluster.kubectl("cordon", "fake-cordoned")
    add_node("fake-npu", npu=2)
    apply_model(cluster, namespace, devices=[I915, "npu.intel.com/accel", CPU], replicas=2)
    serves_on(cluster, namespace, "npu.intel.com/accel")
    told = status(cluster, namespace)["message"]
    assert f"of 1 {I915} 1 is free, 2 are needed (fake-cordoned is cordoned)" in told


@pytest.mark.parametrize(
    ("resource", "key"), [pytest.param(MIG, "mig", id="mig"), pytest.param(SHARED, "shared", id="time-slicing")]
)
def test_parts_of_an_nvidia_gpu_are_counted_by_their_own_name(
    cluster: Cluster, namespace: str, add_node: AddNode, resource: str, key: str
) -> None:
    add_node("fake-parts", NVIDIA, **{key: 2})  # tainted as the whole
    apply_model(cluster, namespace, engine="tensorflow", devices=[resource, CPU], replicas=2)
    serves_on(cluster, namespace, resource)  # placed, before the other looks for what is free
    apply_model(cluster, namespace, "other", engine="tensorflow", devices=[resource, CPU])
    serves_on(cluster, namespace, CPU, "other")
    assert nodes_of(cluster, namespace) >= {"fake-parts"}
    assert f"of 2 {resource} 0 are free" in status(cluster, namespace, "other")["message"]


def test_what_the_scheduler_finds_no_place_for_in_time_falls_back_and_stays_there(
    cluster: Cluster, namespace: str, operator: OperatorProcess, add_node: AddNode
) -> None:
    """The device is free; the node has too few cores beside it."""
    add_node("fake-i915", i915=1, cpu="1")
    apply_model(cluster, namespace, resources={"requests": {"cpu": "4"}})
    serves_on(cluster, namespace, CPU)
    assert f"{I915} gave too few pods a place within 3 s" in status(cluster, namespace)["message"]
    until(cluster, "one revision is left", lambda: len(cluster.get("deployments", namespace)["items"]) == 1)
    before = operator.calls(namespace)
    cluster.wait_for_event(namespace, lambda event: event.reason == "FailedScheduling")
    with pytest.raises(ClusterFault):
        cluster.wait("im/m", f"jsonpath={{.status.device}}={I915}", namespace, timeout_seconds=8)
    assert operator.calls(namespace) == before


def test_two_models_that_come_at_once_do_not_wait_for_the_same_gpu(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-i915", i915=1)
    names = ("a", "b", "c")
    models = [
        {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": {"name": name},
         "spec": {"engine": "openvino", "devices": [I915, CPU], "fallBackAfter": "10m",
                  "model": {"uri": "s3://models/m", "versions": {"specific": [3]}}}}
        for name in names
    ]  # fmt: skip
    cluster.apply(*models, namespace=namespace)
    for name in names:
        cluster.wait(f"im/{name}", "condition=Ready", namespace)
    assert sorted(status(cluster, namespace, name)["device"] for name in names) == [CPU, CPU, I915]


def test_scaling_ends_at_what_is_free(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    add_node("fake-i915", i915=3)
    take(cluster, namespace, I915, 1)
    scaling = {"min": 1, "max": 8, "cpu": "70%"}
    apply_model(cluster, namespace, scaling=scaling, resources={"requests": {"cpu": "1"}})
    serves_on(cluster, namespace, I915)

    def most() -> int:
        (scaler,) = cluster.get("hpa", namespace)["items"]
        return int(scaler["spec"]["maxReplicas"])

    assert most() == 2
    told = condition(cluster, namespace, "Autoscaling")
    assert (told["reason"], "at most 2 of 8" in told["message"]) == ("ScalerCapped", True)
    cluster.kubectl("delete", "pod/theirs", "--namespace", namespace)
    until(cluster, "three can be had", lambda: most() == 3)


def test_a_change_that_the_old_pods_leave_no_room_for_ends_on_the_same_gpu(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-i915", i915=1)
    apply_model(cluster, namespace)
    serves_on(cluster, namespace, I915)
    since = condition(cluster, namespace, "Available")["lastTransitionTime"]
    apply_model(cluster, namespace, engineVersion="2026.2.1")
    cluster.wait("im/m", f"jsonpath={{.status.device}}={CPU}", namespace)
    serves_on(cluster, namespace, I915, timeout_seconds=120)
    available = condition(cluster, namespace, "Available")
    assert (available["status"], available["lastTransitionTime"]) == ("True", since)


def test_with_one_device_that_the_old_pods_hold_the_status_says_that_it_never_fits(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    add_node("fake-i915", i915=1)
    apply_model(cluster, namespace, devices=[I915])
    serves_on(cluster, namespace, I915)
    apply_model(cluster, namespace, devices=[I915], engineVersion="2026.2.1")
    until(
        cluster,
        "it says so",
        lambda: "It never fits beside the revision before it" in status(cluster, namespace).get("message", ""),
    )
    assert status(cluster, namespace)["device"] == I915
