"""What the controller makes of explanations: status, conditions, one Event a cause, and questions in measure."""

from typing import Any

import pytest

from atalaya_operator.second_try import ANNOTATION
from builders_explain import a_node, a_pod, condition, failed, refused, running, unscheduled, waiting
from builders_reconcile import FakeCluster, Manifest, model

TIMES = "2026-01-01T00:10:{:02}Z"


def a_model(**spec: Any) -> FakeCluster:
    """A model whose Deployment was just made, on a node that works."""
    cluster = FakeCluster(model(**spec))
    cluster.nodes = [a_node()]
    cluster.now = TIMES.format(0)
    cluster.reconcile()
    cluster.pods_answer(name(cluster), ready=0)
    cluster.reconcile()
    cluster.calls.clear()
    return cluster


def name(cluster: FakeCluster) -> str:
    return cluster.names("Deployment")[0]


def with_pods(cluster: FakeCluster, *pods: Manifest) -> float | None:
    for one in pods:
        one["metadata"]["labels"]["serving.atalaya.dev/revision"] = name(cluster).removeprefix("m-")
    cluster.pods = list(pods)
    return cluster.reconcile()


def told(cluster: FakeCluster) -> Manifest:
    return dict(cluster.objects["InferenceModel", "m"]["status"])


def conditions(cluster: FakeCluster) -> dict[str, str]:
    return {one["type"]: one["status"] for one in told(cluster)["conditions"]}


NOT_FOUND = 'failed to resolve reference "server:1": server:1: not found'


def test_a_fault_is_told_with_evidence_and_next_step_and_clears_when_the_pods_answer() -> None:
    cluster = a_model()
    with_pods(cluster, a_pod(waiting("ErrImagePull", NOT_FOUND)))
    assert told(cluster)["reason"] == "ImageNotFound"
    assert "pod m-1 on node n1" in told(cluster)["message"]
    assert f"0 of 1 pods of {name(cluster)} answer" in told(cluster)["message"]
    assert told(cluster)["nextStep"].startswith("push server:1")
    assert conditions(cluster) == {
        "Ready": "False", "Available": "False", "Progressing": "False", "Scheduled": "True", "ModelLoaded": "False",
    }  # fmt: skip
    cluster.all_pods_answer()
    cluster.reconcile()
    assert told(cluster)["reason"] == "Serving"
    assert "nextStep" not in told(cluster)
    assert set(conditions(cluster).values()) == {"True"}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(unscheduled("0/1 nodes are available: 1 Insufficient cpu."), ("False", "False"), id="no-node"),
        pytest.param(a_pod(running(since=TIMES.format(0))), ("Unknown", "False"), id="first-moments"),
        pytest.param(a_pod(failed("no")), ("True", "False"), id="crash"),
        pytest.param(a_pod(running(started=True), conditions=[condition("Ready", "False", since=TIMES.format(0))]),
                     ("True", "True"), id="loaded-and-not-ready"),
    ],
)  # fmt: skip
def test_conditions_say_whether_pods_have_nodes_and_the_model_is_loaded(pod: Manifest, expected: Any) -> None:
    cluster = a_model()
    with_pods(cluster, pod)
    assert (conditions(cluster)["Scheduled"], conditions(cluster)["ModelLoaded"]) == expected


def test_an_event_is_told_once_a_cause_and_again_when_the_cause_comes_back() -> None:
    cluster = a_model()
    broken = a_pod(failed("first words"))
    with_pods(cluster, broken)
    with_pods(cluster, broken)
    assert [call.split(" ")[0] for call in cluster.writes] == ["tell", "status"], "not at each look"
    with_pods(cluster, a_pod(failed("other words"), name="m-2"))
    (event,) = cluster.told.values()
    assert (event["reason"], event["type"], event["regarding"]["name"]) == ("CrashLoop", "Warning", "m")
    assert "first words" in event["note"]
    assert "Next: kubectl logs" in event["note"]

    cluster.now = TIMES.format(10)
    cluster.all_pods_answer()
    cluster.reconcile()
    assert len(cluster.told) == 1
    cluster.now = TIMES.format(20)
    cluster.pods_answer(name(cluster), ready=0)
    with_pods(cluster, broken)
    assert len(cluster.told) == 2


def test_another_image_that_is_missing_is_another_cause() -> None:
    cluster = a_model()
    with_pods(cluster, a_pod(waiting("ErrImagePull", NOT_FOUND)))
    other = a_pod(waiting("ErrImagePull", NOT_FOUND))
    other["spec"]["containers"][0]["image"] = "server:2"
    with_pods(cluster, other)
    assert len(cluster.told) == 2


def test_a_model_that_starts_as_usual_asks_nothing_and_tells_nothing_more() -> None:
    cluster = a_model()
    cluster.now = TIMES.format(2)
    again = with_pods(cluster, a_pod(running(since=TIMES.format(0))))
    assert cluster.calls == []
    assert again is not None
    assert 1 <= again < 2, "it is looked at again when it gets late"


def test_a_model_that_is_late_says_what_it_is_at_and_its_log_is_read_more_and_more_seldom() -> None:
    cluster = a_model()
    cluster.now = TIMES.format(4)
    soon = with_pods(cluster, a_pod(running(since=TIMES.format(0))))
    assert told(cluster)["reason"] == "Starting"
    assert "pod m-1 on node n1 loads the model" in told(cluster)["message"]
    assert cluster.calls == ["get log of m-1/server", "status InferenceModel/m"]
    cluster.calls.clear()
    cluster.now = "2026-01-01T00:12:40Z"
    later = cluster.reconcile()
    assert cluster.calls == ["get log of m-1/server"]
    assert (soon, later) == (2.0, 16.0)


def test_what_a_late_server_says_in_its_log_is_told() -> None:
    cluster = a_model()
    cluster.now = TIMES.format(4)
    cluster.logs["m-1", "server"] = "No version found for model in path: /models/m"
    with_pods(cluster, a_pod(running(since=TIMES.format(0))))
    assert told(cluster)["reason"] == "ModelPathNotFound"


def test_a_pod_that_waits_for_a_volume_is_asked_about_by_warnings_of_the_namespace() -> None:
    cluster = a_model()
    cluster.now = TIMES.format(30)
    cluster.warned = [{"involvedObject": {"uid": "uid-m-1"}, "reason": "FailedMount", "message": "no such share",
                       "lastTimestamp": TIMES.format(29), "metadata": {}}]  # fmt: skip
    with_pods(cluster, a_pod(waiting("ContainerCreating")))
    assert told(cluster)["reason"] == "VolumeNotMounted"
    assert cluster.calls[0] == "get Events"


def test_a_lost_nodes_pods_are_not_asked() -> None:
    cluster = a_model()
    cluster.now = TIMES.format(30)
    cluster.nodes = [a_node(ready="Unknown", message="Kubelet stopped posting node status.")]
    again = with_pods(cluster, a_pod(running(since=TIMES.format(0))))
    assert told(cluster)["reason"] == "NodeLost"
    assert not any(call.startswith("get ") for call in cluster.calls)
    assert again is None


def test_one_of_two_pods_that_finds_no_device_is_told_while_the_model_stays_ready() -> None:
    cluster = a_model(replicas=2, devices=["gpu.intel.com/xe"])
    cluster.pods_answer(name(cluster), ready=2)
    cluster.reconcile()
    cluster.pods_answer(name(cluster), ready=1)
    said = "0/1 nodes are available: 1 Insufficient gpu.intel.com/xe."
    with_pods(cluster, cluster.pods[0], unscheduled(said))
    assert told(cluster)["reason"] == "NoNodeWithDevice"
    assert conditions(cluster)["Ready"] == conditions(cluster)["ModelLoaded"] == "True"
    assert conditions(cluster)["Scheduled"] == "False"


def test_a_new_revision_that_fails_is_told_with_what_serves_meanwhile() -> None:
    cluster = a_model()
    cluster.all_pods_answer()
    cluster.reconcile()
    live = cluster.objects["InferenceModel", "m"]
    live["spec"]["image"] = "broken:1"
    live["metadata"]["generation"] += 1
    cluster.reconcile()
    old = next(one["metadata"]["name"] for key, one in cluster.objects.items() if key[0] == "Deployment")
    new = next(one for one in cluster.names("Deployment") if one != old)
    pod = a_pod(failed("no"), revision_digest=new.removeprefix("m-"))
    cluster.pods.append(pod)
    cluster.reconcile()
    assert told(cluster)["reason"] == "CrashLoop"
    assert "the revision before it serves until then" in told(cluster)["message"]
    assert conditions(cluster)["Available"] == "True"


QUOTA = "exceeded quota: tight, requested: pods=1, used: pods=0, limited: pods=0"


def test_refused_pods_are_tried_again_once_whenever_their_quota_changed() -> None:
    cluster = a_model()
    live = cluster.objects["Deployment", name(cluster)]
    live["status"] |= refused(QUOTA)["status"]
    cluster.quotas["tight"] = {"status": {"hard": {"pods": "0"}}}

    def tried() -> Any:
        cluster.calls.clear()
        again = cluster.reconcile()
        assert again is not None
        assert again <= 4
        assert told(cluster)["reason"] == "QuotaExceeded"
        return [call for call in cluster.writes if "second-try" in call], live["metadata"]["annotations"][ANNOTATION]

    first = tried()
    assert len(first[0]) == 1
    assert tried() == ([], first[1])
    cluster.quotas["tight"] = {"status": {"hard": {"pods": "1"}}}
    second = tried()
    assert len(second[0]) == 1
    assert second[1] != first[1]
    live["status"] = {**live["status"], "conditions": []}
    cluster.all_pods_answer()
    cluster.reconcile()
    cluster.calls.clear()
    cluster.reconcile()
    assert cluster.calls == [], "what a second try left on the Deployment is no drift"
