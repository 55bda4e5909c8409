"""Reconcile: from what is seen to the same end, whatever happened before; nothing written where nothing is to be."""

from typing import Any

import pytest

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.platform import Platform
from atalaya_operator.reconcile import HANDOVER_MANAGER
from builders_operator import WITH_MONITORING
from builders_reconcile import KEY, UID, FakeCluster, Manifest, model

SCALED: dict[str, Any] = {"resources": {"requests": {"cpu": 1}}, "scaling": {"max": 5, "cpu": "70%"}}


def served(**spec: Any) -> FakeCluster:
    """A model that serves, at rest."""
    cluster = FakeCluster(model(**spec))
    cluster.settle()
    cluster.calls.clear()
    return cluster


def change(cluster: FakeCluster, **spec: Any) -> None:
    """The user applies another spec."""
    live = cluster.objects["InferenceModel", "m"]
    live["spec"] = model(**spec)["spec"]
    live["metadata"]["generation"] += 1


def led_to(cluster: FakeCluster, name: str = "m") -> str:
    return str(cluster.objects["Service", name]["spec"]["selector"]["serving.atalaya.dev/revision"])


def test_a_new_model_takes_five_objects_and_two_writes_of_its_status() -> None:
    cluster = FakeCluster(model())
    cluster.reconcile()
    assert cluster.status["reason"] == "Starting"
    assert cluster.condition("Ready")["status"] == "False"
    (name,) = cluster.names("Deployment")
    for seen in ({}, {"observedGeneration": 1}, {"observedGeneration": 1, "replicas": 1, "unavailableReplicas": 1}):
        cluster.objects["Deployment", name]["status"] = seen
        cluster.reconcile()
    cluster.all_pods_answer()
    cluster.reconcile()
    assert [one.split(" ")[0] for one in cluster.writes] == ["apply"] * 5 + ["status"] * 2
    assert len(cluster.calls) == 12


def test_pods_that_answer_serve_before_their_deployment_says_so() -> None:
    cluster = FakeCluster(model(replicas=2))
    cluster.reconcile()
    cluster.all_pods_answer()
    cluster.objects["Deployment", cluster.names("Deployment")[0]]["status"] = {"replicas": 0}
    cluster.reconcile()
    assert (cluster.status["ready"], cluster.status["reason"]) == ("2/2", "Serving")


@pytest.mark.parametrize(
    "change_of",
    [
        pytest.param({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, id="leaving"),
        pytest.param({"status": {"phase": "Failed"}}, id="evicted"),
        pytest.param({"metadata": {"labels": {"serving.atalaya.dev/model": "m"}}}, id="of-no-revision"),
    ],
)
def test_a_pod_that_goes_or_is_none_of_the_revision_is_not_counted(change_of: Manifest) -> None:
    cluster = FakeCluster(model())
    cluster.reconcile()
    cluster.all_pods_answer()
    for part, values in change_of.items():
        cluster.pods[0][part] |= values
    cluster.reconcile()
    assert (cluster.status["ready"], cluster.condition("Ready")["status"]) == ("0/1", "False")


def test_a_pod_that_is_no_longer_asked_for_is_not_told_as_one_too_many() -> None:
    cluster = served(replicas=2)
    change(cluster, replicas=0)
    cluster.reconcile()
    assert (cluster.status["ready"], cluster.status["reason"]) == ("0/0", "ScaledToZero")


def test_a_served_model_says_so_in_every_column() -> None:
    told = served(replicas=2)
    shown = told.status
    assert {key: shown[key] for key in ("ready", "device", "version", "reason", "replicas", "observedGeneration")} == {
        "ready": "2/2", "device": "cpu", "version": "3", "reason": "Serving", "replicas": 2, "observedGeneration": 1,
    }  # fmt: skip
    assert [(one["type"], one["status"]) for one in shown["conditions"]] == [
        ("Ready", "True"), ("Available", "True"), ("Progressing", "True"), ("Scheduled", "True"),
        ("ModelLoaded", "True"),
    ]  # fmt: skip
    assert shown["endpoints"]["kserveV2"] == "m.default.svc:9000"
    assert "nextStep" not in shown


@pytest.mark.parametrize("spec", [pytest.param({}, id="plain"), pytest.param(SCALED, id="scaled")])
def test_at_rest_nothing_is_asked_and_nothing_written(spec: dict[str, Any]) -> None:
    cluster = served(**spec)
    cluster.reconcile()
    assert cluster.calls == []


def test_a_change_brings_the_new_revision_up_beside_the_old_and_moves_the_service_when_it_answers() -> None:
    cluster = served()
    (old,), old_digest = cluster.names("Deployment"), led_to(cluster)
    ports = cluster.objects["Service", "m"]["spec"]["ports"]
    change(cluster, engineVersion="2026.2.1")
    cluster.reconcile()
    assert cluster.objects["Service", "m"]["spec"]["ports"] == ports  # the new version has more
    assert len(cluster.names("Deployment")) == 2
    assert led_to(cluster) == led_to(cluster, "m-headless") == old_digest
    assert cluster.status["reason"] == "RollingOut"
    assert cluster.condition("Ready")["status"] == "False"
    assert cluster.condition("Available")["status"] == "True"
    assert [one["verdict"] for one in cluster.status["revisions"]] in (["Serving", "Waiting"], ["Waiting", "Serving"])

    cluster.all_pods_answer()
    cluster.reconcile()
    (new,) = cluster.names("Deployment")
    assert new != old
    assert led_to(cluster) == led_to(cluster, "m-headless") == new.removeprefix("m-")
    assert cluster.names("NetworkPolicy") == [new]
    removal, move = (cluster.calls.index(f"{verb}") for verb in (f"remove Deployment/{old}", "apply Service/m"))
    assert move < removal
    assert cluster.status["reason"] == "Serving"


def test_a_revision_that_never_answers_never_takes_traffic_and_going_back_removes_it() -> None:
    cluster = served()
    old = cluster.names("Deployment")
    change(cluster, image="broken/image:1")
    for _ in range(3):
        cluster.reconcile()
    assert led_to(cluster) == old[0].removeprefix("m-")
    change(cluster)
    cluster.settle()
    assert cluster.names("Deployment") == old
    assert cluster.condition("Ready")["status"] == "True"


def test_a_third_revision_replaces_a_second_that_does_not_answer() -> None:
    cluster = served()
    (first,) = cluster.names("Deployment")
    for image in ("broken/image:1", "broken/image:2"):
        change(cluster, image=image)
        cluster.reconcile()
    assert len(cluster.names("Deployment")) == 2
    assert first in cluster.names("Deployment")


def test_a_service_that_was_removed_midway_leads_to_the_old_revision_again() -> None:
    cluster = served()
    old = led_to(cluster)
    change(cluster, image="broken/image:1")
    cluster.reconcile()
    del cluster.objects["Service", "m"]
    cluster.reconcile()
    assert led_to(cluster) == old


def test_of_several_pods_as_many_must_answer_as_did() -> None:
    cluster = served(replicas=3)
    old = led_to(cluster)
    change(cluster, replicas=3, engineVersion="2026.2.1")
    cluster.reconcile()
    new = next(name for name in cluster.names("Deployment") if not name.endswith(old))
    cluster.pods_answer(new, ready=2)
    cluster.reconcile()
    assert led_to(cluster) == old
    cluster.pods_answer(new, ready=3)
    cluster.reconcile()
    assert new.endswith(led_to(cluster))


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        pytest.param("Service", "m", ("spec", "selector"), {"a": "b"}, id="service-led-astray"),
        pytest.param("Deployment", None, ("spec", "replicas"), 7, id="scaled-by-hand"),
        pytest.param("ServiceAccount", "m-server", ("automountServiceAccountToken",), True, id="token-mounted"),
        pytest.param("NetworkPolicy", None, ("spec", "ingress"), [{}], id="opened"),
    ],
)
def test_drift_is_repaired_with_one_write(kind: str, name: str | None, path: tuple[str, ...], value: object) -> None:
    cluster = served()
    name = name or cluster.names(kind)[0]
    expected = cluster.state()[kind, name]

    def drift(live: Manifest) -> None:
        inner = live
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    cluster.edit(kind, name, drift, *path)
    cluster.reconcile()
    assert cluster.writes[0] == f"apply {kind}/{name}"
    cluster.all_pods_answer()
    cluster.settle()
    assert cluster.state()[kind, name] == expected
    assert len([one for one in cluster.writes if not one.startswith("status")]) == 1


def test_fields_of_others_are_left_alone() -> None:
    cluster = served()
    cluster.edit("Service", "m", lambda live: live["metadata"].update(annotations={"theirs": "x"}))
    cluster.edit("Service", "m", lambda live: live["spec"].update(sessionAffinity="ClientIP"))
    cluster.reconcile()
    assert cluster.calls == []


def test_an_object_that_was_removed_is_made_again() -> None:
    cluster = served()
    del cluster.objects["Service", "m-headless"]
    cluster.reconcile()
    assert cluster.calls == ["get Service/m-headless", "apply Service/m-headless"]


def test_what_the_spec_drops_is_removed() -> None:
    cluster = served(**SCALED)
    assert cluster.names("HorizontalPodAutoscaler")
    change(cluster, resources=SCALED["resources"])
    cluster.settle()
    assert cluster.names("HorizontalPodAutoscaler") == cluster.names("PodDisruptionBudget") == []


def test_another_models_objects_and_those_without_an_owner_are_not_removed() -> None:
    labels = {"serving.atalaya.dev/model": "m"}
    theirs = {"kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "default", "labels": labels,
              "uid": "u", "resourceVersion": "1"}}  # fmt: skip
    cluster = FakeCluster(model(), theirs)
    cluster.settle()
    assert cluster.names("ConfigMap") == ["theirs"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="without-our-labels"),
        pytest.param(
            {"labels": {"serving.atalaya.dev/model": "m"},
             "ownerReferences": [{"uid": "another", "controller": True, "kind": "Other", "name": "o"}]},
            id="controlled-by-another",
        ),
    ],
)  # fmt: skip
def test_an_object_of_somebody_else_is_left_alone_and_told(metadata: Manifest) -> None:
    theirs: Manifest = {"kind": "Service", "metadata": {"name": "m", "namespace": "default", "uid": "u",
                        "resourceVersion": "1", **metadata}, "spec": {"selector": {"app": "theirs"}}}  # fmt: skip
    cluster = FakeCluster(model(), theirs)
    again = cluster.reconcile()
    assert cluster.objects["Service", "m"] == theirs
    assert cluster.status["reason"] == "NameTaken"
    assert "Service m " in cluster.status["message"]
    assert cluster.status["nextStep"]
    assert again == 30
    del cluster.objects["Service", "m"]
    cluster.settle()
    assert cluster.status["reason"] == "Serving"


def test_an_object_that_lost_its_owner_is_taken_back() -> None:
    cluster = served()
    cluster.edit("Service", "m", lambda live: live["metadata"].pop("ownerReferences"), "metadata", "ownerReferences")
    cluster.reconcile()
    assert cluster.objects["Service", "m"]["metadata"]["ownerReferences"][0]["uid"] == UID


def test_an_autoscaler_is_handed_the_replicas_without_a_moment_of_one() -> None:
    cluster = served(replicas=4, resources=SCALED["resources"])
    (name,) = cluster.names("Deployment")
    change(cluster, **SCALED)
    counts = []
    cluster.refuse = lambda manifest: counts.append(cluster.objects["Deployment", name]["spec"]["replicas"])
    cluster.settle()
    assert counts == [4] * len(counts)
    assert cluster.objects["Deployment", name]["spec"]["replicas"] == 4
    assert f"apply as {HANDOVER_MANAGER} Deployment/{name}" in cluster.calls
    cluster.calls.clear()
    cluster.edit("Deployment", name, lambda live: live["spec"].update(replicas=2), "spec", "replicas")
    cluster.all_pods_answer()
    cluster.reconcile()
    assert all(call.startswith("status") for call in cluster.calls)


def test_a_deployment_is_handed_over_before_its_autoscaler_is_made() -> None:
    cluster = FakeCluster(model(scaling={"min": 2, "max": 5, "concurrency": 4}))
    cluster.reconcile(WITH_MONITORING)
    (name,) = cluster.names("Deployment")
    assert cluster.objects["Deployment", name]["spec"]["replicas"] == 2
    scaler = cluster.calls.index(f"apply ScaledObject/{name}")
    assert cluster.calls.index(f"apply as {HANDOVER_MANAGER} Deployment/{name}") < scaler
    assert [call for call in cluster.calls[scaler:] if "Deployment" in call] == []


def test_a_model_that_may_have_no_pods_starts_without_any_and_so_does_what_takes_over_at_zero() -> None:
    spec: dict[str, Any] = {"scaling": {"min": 0, "max": 3, "queue": {"length": 8, "query": "sum(waiting)"}}}
    cluster = FakeCluster(model(**spec))
    cluster.settle(WITH_MONITORING)
    (old,) = cluster.names("Deployment")
    assert cluster.objects["Deployment", old]["spec"]["replicas"] == 0
    assert cluster.status["reason"] == "ScaledToZero"
    change(cluster, **spec, engineVersion="2026.2.1")
    cluster.settle(WITH_MONITORING)
    (new,) = cluster.names("Deployment")
    assert (new != old, cluster.objects["Deployment", new]["spec"]["replicas"]) == (True, 0)


def test_a_new_revision_under_an_autoscaler_starts_with_as_many_pods_as_the_old_one_has() -> None:
    cluster = served(**SCALED)
    (old,) = cluster.names("Deployment")
    cluster.edit("Deployment", old, lambda live: live["spec"].update(replicas=3))
    cluster.all_pods_answer()
    cluster.reconcile()
    change(cluster, **SCALED, engineVersion="2026.2.1")
    cluster.reconcile()
    new = next(name for name in cluster.names("Deployment") if name != old)
    assert cluster.objects["Deployment", new]["spec"]["replicas"] == 3
    cluster.settle()
    assert cluster.names("Deployment") == [new]
    assert cluster.objects["Deployment", new]["spec"]["replicas"] == 3


def test_a_killed_operator_comes_to_the_same_end_wherever_it_was_cut() -> None:
    def story(cut: int | None) -> tuple[FakeCluster, bool]:
        """First the model, then a change of it; the operator dies after so many calls and is started again."""
        cluster, was_cut = FakeCluster(model(**SCALED)), False
        cluster.cut_after = cut
        for spec in (SCALED, SCALED | {"engineVersion": "2026.2.1", "batching": {"maxSize": 4}}):
            change(cluster, **spec)
            try:
                cluster.settle()
            except TryAgain:
                cluster.cut_after, was_cut = None, True
                cluster.settle()
        return cluster, was_cut

    whole, _ = story(None)
    for cut in range(1, len(whole.calls) + 1):
        cluster, was_cut = story(cut)
        assert was_cut
        assert cluster.state() == whole.state(), cut


def test_a_spec_that_lint_refuses_is_told_in_its_words_and_what_serves_goes_on() -> None:
    cluster = served()
    change(cluster, replicas=2, scaling={"max": 3, "concurrency": 4})
    cluster.reconcile()
    assert cluster.status["reason"] == cluster.condition("Ready")["reason"] == "InvalidSpec"
    assert "contradict" in cluster.status["message"]
    assert cluster.status["ready"] == "1/1"
    assert cluster.condition("Available")["status"] == "True"
    assert cluster.status["observedGeneration"] == 2
    assert [call.split(" ")[0] for call in cluster.writes] == ["tell", "status"]


def test_what_the_api_server_refuses_is_told_in_its_words() -> None:
    cluster = FakeCluster(model())

    def refuse(manifest: Manifest) -> None:
        if manifest["kind"] == "Deployment":
            raise ObjectRefused("Deployment m-x: exceeded quota.")

    cluster.refuse = refuse
    assert cluster.reconcile() == 30
    assert cluster.status["reason"] == "ObjectRefused"
    assert "exceeded quota" in cluster.status["message"]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        pytest.param({"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}, "QuotaExceeded",
                     id="quota"),
        pytest.param({"type": "Progressing", "status": "False", "message": "timed out"}, "Stalled", id="stalled"),
    ],
)  # fmt: skip
def test_a_deployment_that_cannot_go_on_is_told_with_its_message(condition: Manifest, reason: str) -> None:
    cluster = FakeCluster(model())
    cluster.reconcile()
    (name,) = cluster.names("Deployment")
    cluster.pods_answer(name, ready=0)
    cluster.objects["Deployment", name]["status"]["conditions"] = [condition]
    cluster.reconcile()
    assert cluster.status["reason"] == reason
    assert condition["message"] in cluster.status["message"]
    assert cluster.status["nextStep"]


def test_a_model_without_pods_is_ready_at_zero() -> None:
    cluster = served(replicas=0)
    assert cluster.status["reason"] == "ScaledToZero"
    assert cluster.condition("Ready")["status"] == "True"


def test_a_model_that_is_being_deleted_is_left_to_the_cluster() -> None:
    gone = model()
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = FakeCluster(gone)
    cluster.reconcile()
    assert cluster.calls == []


def test_a_condition_keeps_the_time_since_which_it_holds() -> None:
    cluster = served()
    told = {one["type"]: one["lastTransitionTime"] for one in cluster.status["conditions"]}
    cluster.objects["InferenceModel", "m"]["status"]["conditions"][0]["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    change(cluster, replicas=2)
    cluster.settle()
    assert told["Ready"] == "2026-01-01T00:00:00Z"
    assert cluster.condition("Ready")["lastTransitionTime"] == "2020-01-01T00:00:00Z"


def test_a_deployment_with_files_has_them_before_it_and_loses_them_with_its_revision() -> None:
    cluster = served(engine="tensorflow", model={"uri": "pvc://claim/m"})
    (old,) = cluster.names("ConfigMap")
    change(cluster, engine="tensorflow", model={"uri": "pvc://claim/m", "versions": {"specific": [4, 3]}})
    cluster.settle()
    (new,) = cluster.names("ConfigMap")
    assert new != old
    assert cluster.status["version"] == "4,3"


def test_other_repositories_of_images_make_another_revision() -> None:
    cluster = served()
    before = cluster.names("Deployment")
    cluster.settle(Platform(atalaya_version="0.1.0", openvino_repository="mirror.example/ovms"))
    assert cluster.names("Deployment") != before
    assert KEY.name == "m"
