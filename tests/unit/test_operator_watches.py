"""Pods and nodes as they are watched: what is kept of them, and whom a change of them concerns."""

import copy
from typing import Any

import pytest

from atalaya_operator.kinds import NODES, PODS, Kind
from atalaya_operator.listeners import POD_SETTLES_SECONDS, Listener, node_listener, object_listener, pod_listener
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.resync import forget_what_is_gone
from atalaya_operator.work_queue import WorkQueue

Manifest = dict[str, Any]
M, OTHER = ModelKey("n", "m"), ModelKey("n", "other")


def pod(version: int, node: str | None = None, model: str = "m", **status: Any) -> Manifest:
    labels = {"serving.atalaya.dev/model": model}
    metadata = {"name": f"{model}-1", "namespace": "n", "uid": f"uid-{model}", "resourceVersion": str(version),
                "labels": labels, "managedFields": [{"manager": "kubelet"}]}  # fmt: skip
    container = {"name": "server", "image": "i", "resources": {"limits": {"gpu.intel.com/xe": "1"}}, "args": ["--a"]}
    spec = {"containers": [container], "volumes": [{"name": "tmp"}]} | ({"nodeName": node} if node else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def node(version: int, beat: str = "t0", ready: str = "True", **spec: Any) -> Manifest:
    conditions = [
        {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": beat},
        {"type": "Ready", "status": ready, "reason": "r", "lastHeartbeatTime": beat, "lastTransitionTime": "t"},
    ]
    status = {"conditions": conditions, "allocatable": {"cpu": "4"}, "images": [{"names": ["a"]}]}
    metadata = {"name": "a", "uid": "uid-a", "resourceVersion": str(version), "labels": {"zone": "z"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


class Told:
    """A queue that tells what was added to it, and how late."""

    def __init__(self) -> None:
        self.observed, self.now = Observed(), 0.0
        self.queue = WorkQueue[ModelKey](lambda: self.now)
        self.pods = pod_listener(self.observed, self.queue)
        self.nodes = node_listener(self.observed, self.queue)

    def of(self, listener: Listener, *found: Manifest) -> set[ModelKey]:
        for one in found:
            listener.keep(one)
            listener.look(one)
        return self.taken()

    def taken(self) -> set[ModelKey]:
        self.now += POD_SETTLES_SECONDS
        keys = set()
        for _ in range(len(self.queue)):
            key = self.queue.take()
            assert key
            self.queue.done(key)
            keys.add(key)
        return keys


@pytest.fixture
def told() -> Told:
    made = Told()
    made.observed.put({"kind": "InferenceModel", "metadata": {"name": "m", "namespace": "n", "uid": "m",
                                                               "resourceVersion": "1"}})  # fmt: skip
    return made


def test_of_pods_and_nodes_only_what_is_read_is_kept(told: Told) -> None:
    told.of(told.pods, pod(1, "a", podIP="1.2.3.4", phase="Running"))
    told.of(told.nodes, node(1))
    seen = told.observed.seen(M)
    assert seen
    (kept,) = seen.pods
    assert "managedFields" not in kept["metadata"]
    assert kept["status"] == {"phase": "Running", "conditions": [], "initContainerStatuses": [],
                              "containerStatuses": []}  # fmt: skip
    assert kept["spec"]["containers"] == [
        {"name": "server", "image": "i", "resources": {"limits": {"gpu.intel.com/xe": "1"}}}
    ]
    kept = told.observed.nodes()["a"]
    assert kept["status"] == {
        "conditions": [{"type": "Ready", "status": "True", "reason": "r", "lastTransitionTime": "t"}],
        "allocatable": {"cpu": "4"},
    }
    assert kept["metadata"]["labels"] == {"zone": "z"}


def test_a_pod_wakes_its_model_once_for_what_happens_together(told: Told) -> None:
    told.pods.keep(pod(1))
    told.pods.keep(pod(2, "a"))
    assert len(told.queue) == 1
    assert told.taken() == {M}


@pytest.mark.parametrize(
    ("later", "wakes"),
    [
        pytest.param(pod(2, "a", phase="Running", podIP="1.2.3.4"), False, id="an-address"),
        pytest.param(pod(2, "a", phase="Failed"), True, id="its-phase"),
        pytest.param(pod(0, "a", phase="Pending"), False, id="what-comes-late"),
    ],
)
def test_a_pod_wakes_its_model_only_when_something_happened(told: Told, later: Manifest, wakes: bool) -> None:
    told.of(told.pods, pod(1, "a", phase="Running"))
    assert told.of(told.pods, later) == ({M} if wakes else set())


@pytest.mark.parametrize(
    ("later", "wakes"),
    [
        pytest.param(node(2, beat="t1"), False, id="heartbeat"),
        pytest.param(node(2, ready="Unknown"), True, id="lost"),
        pytest.param(node(2, unschedulable=True), True, id="cordoned"),
        pytest.param(node(2, taints=[{"key": "k", "effect": "NoSchedule"}]), True, id="tainted"),
    ],
)
def test_a_node_wakes_the_models_that_are_there_and_those_that_wait(told: Told, later: Manifest, wakes: bool) -> None:
    told.of(told.pods, pod(1, "a"), pod(2, None, "other"), pod(3, "b", "elsewhere"))
    assert told.of(told.nodes, node(1)) == {M, OTHER}
    assert told.of(told.nodes, later) == ({M, OTHER} if wakes else set())


def test_more_of_a_device_wakes_those_that_wait(told: Told) -> None:
    told.of(told.nodes, node(1))
    told.of(told.pods, pod(1, None))
    more = copy.deepcopy(node(2))
    more["status"]["allocatable"]["gpu.intel.com/xe"] = "2"
    assert told.of(told.nodes, more) == {M}


def test_a_node_and_a_pod_that_go_are_forgotten_and_wake_their_models(told: Told) -> None:
    told.of(told.nodes, node(1))
    told.of(told.pods, pod(1, "a"))
    told.nodes.forget(node(2))
    assert told.taken() == {M}
    assert told.observed.nodes() == {}
    told.pods.forget(pod(2, "a"))
    assert told.taken() == {M}
    seen = told.observed.seen(M)
    assert seen
    assert seen.pods == ()


@pytest.mark.parametrize("what", ["pod", "node"])
def test_a_model_that_follows_what_is_free_is_looked_at_when_others_take_or_leave_it(told: Told, what: str) -> None:
    def happens(version: int, *, goes: bool) -> set[ModelKey]:
        listener, found = (told.pods, pod(version, "a", "other")) if what == "pod" else (told.nodes, node(version, "t"))
        if goes:
            listener.forget(found)
            return told.taken()
        return told.of(listener, found)

    assert M not in happens(1, goes=False)
    told.observed.follow(M, is_open=True)
    assert M in happens(2, goes=True)
    assert M in happens(3, goes=False)
    told.observed.follow(M, is_open=False)
    assert M not in happens(4, goes=True)


@pytest.mark.parametrize(("resource", "wakes"), [("gpu.intel.com/xe", True), ("cpu", False)])
def test_a_model_that_follows_what_is_free_is_looked_at_when_another_asks_for_it_no_longer(
    told: Told, resource: str, wakes: bool
) -> None:
    containers = [{"name": "server", "resources": {"limits": {resource: "1"}}}]
    metadata = {"name": "d", "namespace": "n", "uid": "d", "resourceVersion": "1",
                "labels": {"serving.atalaya.dev/model": "other"}}  # fmt: skip
    deployment = {
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"template": {"spec": {"containers": containers}}},
    }
    objects = object_listener(told.observed, told.queue)
    told.observed.follow(M, is_open=True)
    told.of(objects, deployment)
    objects.forget(deployment)
    assert (M in told.taken()) is wakes


class Nothing:
    """A cluster in which none of what is asked for is left."""

    def uids(self, kind: Kind) -> tuple[frozenset[str], int]:
        return frozenset(), 50


def test_pods_and_nodes_that_went_unseen_are_found_out(told: Told) -> None:
    told.of(told.pods, pod(1, "a"))
    told.of(told.nodes, node(1))
    assert forget_what_is_gone(Nothing(), told.observed, [NODES]) == {M}
    assert told.observed.nodes() == {}
    assert forget_what_is_gone(Nothing(), told.observed, [PODS]) == {M}
    assert told.observed.of_kind(PODS.name) == []
