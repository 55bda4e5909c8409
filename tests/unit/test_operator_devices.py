"""A model's device through its life, by an operator that is started anew for every look: nothing is remembered."""

import itertools
from typing import Any

import pytest

from atalaya_operator.accelerators import Holder
from atalaya_operator.allocation import Allocation, Asked
from atalaya_operator.controller import Controller
from atalaya_operator.device_standing import with_device_annotations
from atalaya_operator.errors import ObjectRefused
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.plan import serving_device
from atalaya_operator.revision import Decisions, PinnedVersion
from atalaya_spec.inference_model import InferenceModel
from atalaya_spec.model_files import check_object
from builders_devices import DeviceCluster, Manifest, node, pod
from builders_operator import PLAIN
from builders_reconcile import UID, FakeCluster, model

XE, I915, NPU, CPU = "gpu.intel.com/xe", "gpu.intel.com/i915", "npu.intel.com/accel", "cpu"


def at_rest(*nodes: Manifest, foreign: tuple[Manifest, ...] = (), **spec: Any) -> DeviceCluster:
    cluster = DeviceCluster(model(**{"devices": [XE, CPU], **spec}), nodes=nodes)
    cluster.foreign += foreign
    cluster.come_to_rest()
    return cluster


def change(cluster: FakeCluster, **spec: Any) -> None:
    live = cluster.objects["InferenceModel", "m"]
    live["spec"] = model(**{"devices": [XE, CPU], **spec})["spec"]
    live["metadata"]["generation"] += 1


@pytest.mark.parametrize(
    ("nodes", "foreign", "device", "told"),
    [
        pytest.param([node("a", xe=1)], [], XE, None, id="free"),
        pytest.param([], [], CPU, "no node offers gpu.intel.com/xe", id="no-gpu"),
        pytest.param([node("a", xe=1)], [pod("p", "a", xe=1)], CPU, "of 1 gpu.intel.com/xe 0 are free, 1 is needed",
                     id="full"),
        pytest.param([node("a", "special:NoSchedule", xe=1)], [], CPU, "a has the taint special:NoSchedule",
                     id="tainted"),
        pytest.param([node("a", xe=1, ready=False)], [], CPU, "a is not ready", id="lost"),
        pytest.param([node("a", xe=1), node("b", i915=3)], [pod("p", "a", xe=1)], CPU, "0 are free", id="mixed"),
    ],
)  # fmt: skip
def test_the_first_device_that_is_free_is_taken_and_the_others_are_accounted_for(
    nodes: list[Manifest], foreign: list[Manifest], device: str, told: str | None
) -> None:
    cluster = at_rest(*nodes, foreign=tuple(foreign))
    shown = cluster.status
    assert (cluster.device(), shown["device"], shown["reason"]) == (device, device, "Serving")
    assert cluster.condition("PreferredDevice")["status"] == ("False" if told else "True")
    if told:
        assert told in shown["message"]
        assert told in cluster.condition("PreferredDevice")["message"]


def test_at_rest_nothing_is_written_whatever_others_do() -> None:
    cluster = at_rest(node("a", xe=1), foreign=(pod("p", "a", xe=1),))
    cluster.calls.clear()
    cluster.foreign.clear()
    cluster.machines["b"] = node("b", xe=5)
    cluster.come_to_rest(3600)
    assert cluster.calls == []


def test_all_replicas_are_of_one_class() -> None:
    cluster = at_rest(node("a", xe=2), replicas=3)
    assert cluster.device() == CPU
    assert "of 2 gpu.intel.com/xe 2 are free, 3 are needed" in cluster.status["message"]


def test_pods_that_find_no_place_in_time_fall_back_and_the_status_says_so() -> None:
    cluster = DeviceCluster(model(devices=[XE, CPU], fallBackAfter="30s"), nodes=[node("a", xe=1)])
    cluster.stuck.add(XE)
    cluster.come_to_rest()
    assert cluster.status["reason"] == "Starting"
    assert cluster.reconcile() == pytest.approx(30, abs=2)
    cluster.come_to_rest(31)
    assert (cluster.device(), cluster.status["reason"]) == (CPU, "Serving")
    assert "gpu.intel.com/xe gave too few pods a place within 30 s" in cluster.status["message"]
    cluster.calls.clear()
    cluster.come_to_rest(86_400)
    assert cluster.calls == []


def test_a_lost_node_makes_it_fall_back_and_the_old_revision_stays_until_the_new_one_answers() -> None:
    cluster = at_rest(node("a", xe=1))
    cluster.lose("a")
    cluster.come_to_rest(110)
    assert cluster.devices() == {XE}
    cluster.stuck.add(CPU)
    cluster.come_to_rest(10)
    assert cluster.devices() == {XE, CPU}
    cluster.stuck.clear()
    cluster.come_to_rest(1)
    assert cluster.device() == CPU


def test_a_node_that_is_back_in_time_changes_nothing() -> None:
    cluster = at_rest(node("a", xe=1))
    cluster.lose("a")
    cluster.come_to_rest(60)
    cluster.machines["a"] = node("a", xe=1)
    cluster.come_to_rest(300)
    assert cluster.device() == XE


def test_pods_that_a_quota_keeps_from_being_made_fall_back_too() -> None:
    cluster = DeviceCluster(model(devices=[XE, CPU]), nodes=[node("a", xe=1)])
    cluster.reconcile()
    (name,) = cluster.names("Deployment")
    refused = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": cluster.now, "message": "quota"}
    cluster.objects["Deployment", name]["status"] = {"observedGeneration": 1, "conditions": [refused]}
    cluster.now = "2026-01-01T00:02:00Z"
    cluster.reconcile()
    assert cluster.devices() == {XE, CPU}


def test_moving_up_is_asked_for_and_cools_down() -> None:
    cluster = at_rest(moveUpAfter="10m")
    assert cluster.device() == CPU
    cluster.machines["a"] = node("a", xe=1)
    cluster.come_to_rest(60)
    assert cluster.device() == CPU
    cluster.come_to_rest(500)
    assert cluster.device() == CPU
    assert cluster.reconcile() == pytest.approx(40, abs=5)
    cluster.come_to_rest(40)
    assert cluster.device() == XE
    assert cluster.status["reason"] == "Serving"
    assert cluster.condition("PreferredDevice")["reason"] == "FirstChoice"


def test_what_moves_up_and_finds_no_place_comes_down_and_tries_again_only_after_the_cool_down() -> None:
    cluster = at_rest(moveUpAfter="10m")
    cluster.machines["a"] = node("a", xe=1)
    cluster.stuck.add(XE)
    devices = []
    for _ in range(120):
        cluster.come_to_rest(30)
        devices.append(XE in cluster.devices())
        assert cluster.status["device"] == CPU
        assert cluster.condition("Available")["status"] == "True"
    tries = sum(now and not before for before, now in itertools.pairwise(devices))
    assert 3 <= tries <= 6  # an hour and some, in rounds of twelve minutes


def test_a_change_of_the_spec_that_its_old_pods_leave_no_room_for_comes_back_to_its_device() -> None:
    cluster = at_rest(node("a", xe=1))
    change(cluster, engineVersion="2026.2.1")
    cluster.reconcile()
    assert cluster.devices() == {XE, CPU}
    assert "the revision before it holds 1" in cluster.condition("PreferredDevice")["message"]
    assert "It goes to gpu.intel.com/xe as soon as that is free." in cluster.condition("PreferredDevice")["message"]
    cluster.wait(1)
    cluster.come_to_rest(60)
    assert cluster.device() == XE
    assert cluster.status["reason"] == "Serving"


def test_a_change_that_has_room_beside_the_old_pods_stays_on_the_device() -> None:
    cluster = at_rest(node("a", xe=2))
    change(cluster, engineVersion="2026.2.1")
    seen = set()
    for _ in range(5):
        cluster.reconcile()
        seen |= cluster.devices()
        cluster.wait(1)
    assert seen == {XE}


def test_with_one_device_that_the_old_pods_hold_it_says_that_it_never_fits() -> None:
    cluster = at_rest(node("a", xe=1), devices=[XE])
    assert cluster.condition("PreferredDevice") == {}
    change(cluster, devices=[XE], engineVersion="2026.2.1")
    cluster.come_to_rest(1)
    shown = cluster.status
    assert shown["reason"] == "RollingOut"
    assert "It never fits beside the revision before it, which serves." in shown["message"]
    assert "delete the Deployment" in shown["nextStep"]


def test_another_spec_chooses_anew() -> None:
    cluster = at_rest()
    cluster.machines["a"] = node("a", xe=1)
    change(cluster, batching={"maxSize": 4})
    cluster.come_to_rest(1)
    assert cluster.device() == XE


def test_scaling_is_capped_at_what_is_free_and_that_is_said() -> None:
    spec = {"resources": {"requests": {"cpu": 1}}, "scaling": {"min": 1, "max": 8, "cpu": "70%"}}
    cluster = at_rest(node("a", xe=3), foreign=(pod("p", "a", xe=1),), **spec)
    (scaler,) = cluster.names("HorizontalPodAutoscaler")

    def most() -> int:
        return int(cluster.objects["HorizontalPodAutoscaler", scaler]["spec"]["maxReplicas"])

    assert most() == 2
    assert cluster.condition("Autoscaling")["reason"] == "ScalerCapped"
    assert "at most 2 of 8" in cluster.condition("Autoscaling")["message"]
    cluster.foreign.clear()
    cluster.come_to_rest(1)
    assert most() == 3
    cluster.machines["b"] = node("b", xe=16)
    cluster.come_to_rest(1)
    assert most() == 8
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"


def test_the_fewest_replicas_are_asked_for_even_where_they_cannot_be_had() -> None:
    spec = {"resources": {"requests": {"cpu": 1}}, "scaling": {"min": 3, "max": 8, "cpu": "70%"}}
    cluster = at_rest(node("a", xe=1), devices=[XE], **spec)
    (scaler,) = cluster.names("HorizontalPodAutoscaler")
    bounds = cluster.objects["HorizontalPodAutoscaler", scaler]["spec"]
    assert (bounds["minReplicas"], bounds["maxReplicas"]) == (3, 3)
    assert "of 1 gpu.intel.com/xe" in cluster.status["message"]


def test_an_operator_that_is_killed_at_any_call_of_a_fall_back_ends_in_the_same_state() -> None:
    def lost() -> DeviceCluster:
        cluster = at_rest(node("a", xe=1))
        cluster.lose("a")
        cluster.wait(200)
        cluster.calls.clear()
        return cluster

    whole = lost()
    whole.come_to_rest()
    assert whole.device() == CPU
    for cut in range(1, len(whole.calls) + 1):
        cluster = lost()
        cluster.cut_after = cut
        with pytest.raises(Exception, match="killed here"):
            cluster.come_to_rest()
        cluster.cut_after = None
        cluster.come_to_rest()
        assert cluster.state().keys() == whole.state().keys()
        assert cluster.device() == CPU


@pytest.mark.parametrize("spec", [pytest.param({"devices": [CPU]}, id="cores"), pytest.param({}, id="by-default"),
                                  pytest.param({"devices": [XE]}, id="one-accelerator")])  # fmt: skip
def test_nothing_is_asked_of_the_cluster_where_there_is_nothing_to_choose(spec: dict[str, Any]) -> None:
    def asked() -> list[Holder]:
        raise AssertionError("a watch of all pods would begin here")

    observed = Observed()
    given = Allocation(observed, asked).give(_asked(observed, "m", **spec), "2026-01-01T00:00:00Z")
    assert given.decided.device == spec.get("devices", [CPU])[0]
    assert given.decided.annotations == {}
    assert given.choice is None


def test_two_models_that_are_made_at_once_are_not_given_the_same_device() -> None:
    observed = Observed()
    observed.put_node(node("a", xe=1))
    allocation = Allocation(observed, tuple)
    first, second = (_asked(observed, name, devices=[XE, CPU]) for name in ("m1", "m2"))
    now = "2026-01-01T00:00:00Z"
    assert [allocation.give(one, now).decided.device for one in (first, second, first)] == [XE, CPU, XE]
    allocation.forget(ModelKey("default", "m1"))
    assert allocation.give(second, now).decided.device == XE


def test_a_model_that_is_gone_keeps_no_device_from_others() -> None:
    observed = Observed()
    observed.put_node(node("a", xe=1))
    allocation = Allocation(observed, tuple)
    first, second = (_asked(observed, name, devices=[XE, CPU]) for name in ("m1", "m2"))
    now = "2026-01-01T00:00:00Z"
    assert allocation.give(first, now).decided.device == XE
    observed.drop(first.seen.model)
    assert allocation.give(second, now).decided.device == XE


def test_what_the_api_server_will_not_have_keeps_no_device_from_others() -> None:
    cluster = DeviceCluster(model(devices=[XE, CPU]), nodes=[node("a", xe=1)])
    observed = cluster.observed()
    allocation = Allocation(observed, tuple)

    def refuse(manifest: Manifest) -> None:
        raise ObjectRefused("no, thank you")

    cluster.refuse = refuse
    controller = Controller(cluster, observed, lambda: PLAIN, lambda: cluster.now, allocation)
    controller.reconcile(ModelKey("default", "m"))
    assert cluster.status["reason"] == "ObjectRefused"
    assert allocation.give(_asked(observed, "n", devices=[XE, CPU]), cluster.now).decided.device == XE


def _asked(observed: Observed, name: str, **spec: Any) -> Asked:
    document = model(**spec)
    document["metadata"] |= {"name": name, "uid": f"{UID}-{name}"}
    observed.put(document)
    seen = observed.seen(ModelKey("default", name))
    read, _ = check_object(document)
    assert seen
    assert isinstance(read, InferenceModel)
    return Asked(Subject(read, document["metadata"]["uid"]), Decisions((PinnedVersion(3),), CPU), PLAIN, seen)


def test_a_plan_compares_a_fallen_back_model_without_what_no_spec_says() -> None:
    cluster = at_rest()
    (name,) = cluster.names("Deployment")
    live = cluster.objects["Deployment", name]
    assert live["metadata"]["annotations"]["serving.atalaya.dev/device-reason"] == "no node offers gpu.intel.com/xe"
    bare = {**live, "metadata": {key: value for key, value in live["metadata"].items() if key != "annotations"}}
    assert with_device_annotations(bare, live) == live
    assert with_device_annotations(bare, None) == with_device_annotations(bare, bare) == bare


@pytest.mark.parametrize(
    ("is_stuck", "told"),
    [
        pytest.param(True, "of 1 gpu.intel.com/xe 1 is free, 1 is needed, pods that wait ask for 2", id="waited-for"),
        pytest.param(False, "of 1 gpu.intel.com/xe 0 are free, 1 is needed, pods that wait ask for 1", id="held"),
    ],
)
def test_what_another_models_pods_hold_or_wait_for_is_not_given_away(is_stuck: bool, told: str) -> None:
    cluster = DeviceCluster(model(devices=[XE], replicas=2), nodes=[node("a", xe=1)])
    cluster.stuck |= {XE} if is_stuck else set()
    cluster.come_to_rest()
    observed = cluster.observed()
    given = Allocation(observed, tuple).give(_asked(observed, "n", devices=[XE, CPU]), cluster.now)
    assert given.choice
    assert (given.choice.device, given.choice.reason) == (CPU, told)


def test_a_plan_takes_the_device_that_serves_for_the_one_that_can_be_had() -> None:
    cluster = at_rest()
    live, named = cluster.objects["InferenceModel", "m"], model(devices=[XE, CPU])
    read, _ = check_object(named)
    assert read
    assert serving_device(live, read) == CPU
    other, _ = check_object(model(devices=[XE, I915]))
    assert other
    assert serving_device(live, other) is None
    assert serving_device(None, read) is None
