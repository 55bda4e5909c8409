"""`latest` and `all`: a pod asks the store, its answer is kept in the status, and nothing but an answer changes it."""

import json
from typing import Any

import pytest

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.listing_pod import listing_pod
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import Platform
from atalaya_spec.errors import UsageError
from builders_operator import PLAIN, SECRET, inference_model
from builders_reconcile import NOW, FakeCluster, Manifest, model

LATEST: dict[str, Any] = {"model": {"uri": "s3://models/m", "versions": {"latest": 1}}}
POD = ("Pod", "m-versions")
DIGEST = "sha256:" + "0f" * 32
IN_FIVE_MINUTES, IN_SIX_MINUTES = "2026-01-01T00:05:00Z", "2026-01-01T00:06:00Z"
NOT_FOUND = "ModelPathNotFound: s3://models/m has no version: no folder; correct spec.model.uri, or put one there."


def told(*versions: int, more: int = 0, **digests: str) -> str:
    named = {key.removeprefix("v"): digest for key, digest in digests.items()}
    return json.dumps({"versions": sorted(versions, reverse=True), "digests": named, "more": more})


def answers(cluster: FakeCluster, message: str, at: str = NOW) -> None:
    """The pod ends with these words."""
    ended = {"exitCode": 0, "message": message, "finishedAt": at}
    says(cluster, {"phase": "Succeeded", "containerStatuses": [{"name": "fetch", "state": {"terminated": ended}}]})


def fails(cluster: FakeCluster, message: str) -> None:
    """The pod has failed, and its kubelet will try again."""
    container = {"name": "fetch", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 1, "message": message}}}  # fmt: skip
    says(cluster, {"phase": "Running", "containerStatuses": [container]})


def waits(reason: str, message: str) -> Manifest:
    """The status of a pod whose container does not start."""
    waiting = {"reason": reason, "message": message}
    return {"phase": "Pending", "containerStatuses": [{"name": "fetch", "state": {"waiting": waiting}}]}


def says(cluster: FakeCluster, status: Manifest) -> None:
    cluster.objects[POD]["status"] = status
    cluster.edit(*POD, lambda live: None)


def asked(**spec: Any) -> FakeCluster:
    """A model whose store is being asked."""
    cluster = FakeCluster(model(**(LATEST | spec)))
    cluster.reconcile()
    return cluster


def served(*versions: int, **spec: Any) -> FakeCluster:
    """A model that serves what its store has, at rest."""
    cluster = asked(**spec)
    answers(cluster, told(*versions))
    cluster.settle()
    cluster.calls.clear()
    return cluster


def change(cluster: FakeCluster, **spec: Any) -> None:
    live = cluster.objects["InferenceModel", "m"]
    live["spec"] = model(**spec)["spec"]
    live["metadata"]["generation"] += 1


def test_the_first_look_makes_the_account_and_the_pod_that_asks_and_nothing_else() -> None:
    cluster = asked()
    assert cluster.calls == [
        "get ServiceAccount/m-server", "apply ServiceAccount/m-server", "apply Pod/m-versions",
        "status InferenceModel/m",
    ]  # fmt: skip
    assert (cluster.status["reason"], cluster.condition("Progressing")["status"]) == ("ListingVersions", "True")
    cluster.calls.clear()
    cluster.reconcile()
    assert cluster.calls == []


def test_an_answer_becomes_pods_of_that_version_and_stands_in_the_status() -> None:
    cluster = asked()
    answers(cluster, told(3, 4, 2, v4=DIGEST))
    cluster.settle()
    assert cluster.status["reason"] == "Serving"
    assert cluster.status["version"] == "4"
    assert cluster.status["resolved"]["versions"] == [{"number": 4, "digest": DIGEST}]
    assert cluster.condition("VersionsKnown")["status"] == "True"
    (name,) = cluster.names("Deployment")
    template = cluster.objects["Deployment", name]["spec"]["template"]
    assert '--model_version_policy={"specific":{"versions":[4]}}' in template["spec"]["containers"][0]["args"]
    assert template["metadata"]["annotations"]["serving.atalaya.dev/model-digest"] == f"4={DIGEST}"


def test_an_answer_counts_also_in_the_moment_before_the_pod_is_told_to_have_ended() -> None:
    cluster = asked()
    answers(cluster, told(3))
    told_of_it = cluster.objects[POD]["status"]
    told_of_it["phase"] = "Running"
    told_of_it["containerStatuses"].insert(0, {"name": "mesh-proxy", "state": {"running": {}}})
    cluster.settle()
    assert (cluster.status["reason"], cluster.condition("VersionsKnown")["status"]) == ("Serving", "True")


def test_what_it_costs_is_two_more_writes_at_first_and_two_a_look() -> None:
    cluster = asked()
    answers(cluster, told(3))
    cluster.settle()
    assert [one.split(" ")[0] for one in cluster.writes] == ["apply"] * 2 + ["status"] + ["apply"] * 4 + ["status"] * 2
    assert len(cluster.calls) == 14
    cluster.calls.clear()
    cluster.reconcile(now=IN_FIVE_MINUTES)
    cluster.reconcile(now=IN_FIVE_MINUTES)
    assert cluster.calls == ["remove Pod/m-versions", "apply Pod/m-versions"]
    answers(cluster, told(3), at=IN_FIVE_MINUTES)
    assert cluster.reconcile(now=IN_SIX_MINUTES) == 240
    assert len(cluster.calls) == 2


def test_a_new_version_in_the_store_makes_a_revision_beside_the_old() -> None:
    cluster = served(3)
    (old,) = cluster.names("Deployment")
    for _ in range(2):
        cluster.reconcile(now=IN_FIVE_MINUTES)
    answers(cluster, told(3, 4), at=IN_FIVE_MINUTES)
    cluster.reconcile(now=IN_FIVE_MINUTES)
    assert len(cluster.names("Deployment")) == 2
    assert old in cluster.names("Deployment")
    assert cluster.status["reason"] == "RollingOut"
    cluster.settle()
    assert cluster.status["version"] == "4"


def test_other_files_under_the_same_number_make_another_revision() -> None:
    cluster = asked(engine="tensorflow")
    answers(cluster, told(3, v3="files:0123456789abcdef"))
    cluster.settle()
    before = cluster.names("Deployment")
    answers(cluster, told(3, v3="files:fedcba9876543210"))
    cluster.settle()
    assert cluster.names("Deployment") != before
    args = cluster.objects["Deployment", cluster.names("Deployment")[0]]["spec"]["template"]["spec"]
    assert "--versions=3" in json.dumps(args)
    assert "--digest" not in json.dumps(args)  # a mark of the store's tags is no digest of contents


def test_a_store_that_fails_is_told_and_takes_nothing_down() -> None:
    cluster = served(3)
    for _ in range(2):
        cluster.reconcile(now=IN_FIVE_MINUTES)
    fails(cluster, NOT_FOUND)
    cluster.reconcile(now=IN_SIX_MINUTES)
    assert (cluster.status["reason"], cluster.status["version"]) == ("Serving", "3")
    known = cluster.condition("VersionsKnown")
    assert (known["status"], known["reason"]) == ("False", "ModelPathNotFound")
    assert "has no version" in known["message"]
    assert cluster.condition("Ready")["status"] == "True"
    cluster.calls.clear()
    cluster.reconcile(now="2026-01-02T00:00:00Z")
    assert cluster.calls == []  # its kubelet goes on trying
    answers(cluster, told(3), at="2026-01-02T00:00:00Z")
    cluster.reconcile(now="2026-01-02T00:00:00Z")
    assert cluster.condition("VersionsKnown")["status"] == "True"


@pytest.mark.parametrize(
    ("said", "reason", "step"),
    [
        pytest.param(NOT_FOUND, "ModelPathNotFound", "correct spec.model.uri, or put one there", id="not-found"),
        pytest.param("a line\nBadCredentials: s3://models/m refuses; correct the Secret.", "BadCredentials",
                     "correct the Secret", id="last-line"),
        pytest.param("Traceback: x\nKeyError: 3", "VersionUnresolved", "kubectl describe pod m-versions", id="no-step"),
        pytest.param("", "VersionUnresolved", "kubectl describe pod m-versions", id="no-words"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_asked_at_all_is_told_with_reason_and_next_step(
    said: str, reason: str, step: str
) -> None:
    cluster = asked()
    fails(cluster, said)
    cluster.reconcile()
    assert cluster.status["reason"] == cluster.condition("Ready")["reason"] == reason
    assert cluster.status["nextStep"].startswith(step)
    assert cluster.names("Deployment") == []


@pytest.mark.parametrize(
    ("told_of_it", "words"),
    [
        pytest.param(waits("ErrImagePull", "a"), "gets no image atalaya/serving:0.1.0", id="image"),
        pytest.param(waits("CreateContainerConfigError", 'secret "s" not found'), 'secret "s" not found', id="secret"),
        pytest.param({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                      "message": "0/3 nodes are available"}]}, "0/3 nodes are available", id="no-node"),
        pytest.param({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"},
                     "low on memory", id="evicted"),
        pytest.param({"phase": "Succeeded", "containerStatuses": [{"name": "fetch", "state": {"terminated": {
                      "message": "hello"}}}]}, "cannot be read", id="another-image"),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_run_is_told_with_what_the_node_says(told_of_it: Manifest, words: str) -> None:
    cluster = asked()
    says(cluster, told_of_it)
    cluster.reconcile()
    assert cluster.status["reason"] == "VersionUnresolved"
    assert words in cluster.status["message"]


@pytest.mark.parametrize("answer", ["[]", "{}", '{"versions":[0,-1,"4",true,4294967296],"digests":{}}',
                                    '{"versions":[3],"digests":{"3":7}}', "null", "{" * 5000])  # fmt: skip
def test_a_strange_answer_is_no_version(answer: str) -> None:
    cluster = asked()
    answers(cluster, answer)
    cluster.reconcile()
    assert cluster.names("Deployment") == []


def test_a_pod_that_may_not_be_made_takes_nothing_down() -> None:
    cluster = served(3)
    del cluster.objects[POD]

    def refuse(manifest: Manifest) -> None:
        if manifest["kind"] == "Pod":
            raise ObjectRefused("Pod m-versions: exceeded quota.")

    cluster.refuse = refuse
    assert cluster.reconcile() == 30
    assert cluster.status["reason"] == "Serving"
    assert "exceeded quota" in cluster.condition("VersionsKnown")["message"]


def test_a_restart_and_the_loss_of_the_pod_change_nothing_that_serves() -> None:
    cluster = served(3)
    before = cluster.state()
    del cluster.objects[POD]
    cluster.reconcile()
    assert cluster.calls == ["apply Pod/m-versions"]
    cluster.calls.clear()
    cluster.reconcile()
    assert cluster.calls == []
    after = cluster.state()
    assert {key: one for key, one in after.items() if key != POD} == {k: v for k, v in before.items() if k != POD}


def test_a_killed_operator_comes_to_the_same_end_wherever_it_was_cut() -> None:
    def story(cut: int | None) -> FakeCluster:
        cluster = FakeCluster(model(**LATEST))
        cluster.cut_after = cut
        for versions, now in (((3,), NOW), ((3, 4), IN_FIVE_MINUTES)):
            for _ in range(12):
                try:
                    cluster.reconcile(now=now)
                except TryAgain:
                    cluster.cut_after = None
                pod = cluster.objects.get(POD)
                if pod and "status" not in pod:
                    answers(cluster, told(*versions), at=now)
                cluster.all_pods_answer()
        return cluster

    def end(cluster: FakeCluster) -> str:
        for one in cluster.status["conditions"]:
            one["lastTransitionTime"] = NOW  # when it was cut it may take longer
        return json.dumps(sorted(map(list, cluster.state().items())))

    whole = story(None)
    assert whole.status["version"] == "4"
    calls, wanted = len(whole.calls), end(whole)
    for cut in range(1, calls + 1):
        assert end(story(cut)) == wanted, cut


def test_another_question_is_asked_at_once_and_the_old_version_serves_until_it_is_answered() -> None:
    cluster = served(3)
    change(cluster, model={"uri": "s3://models/other", "versions": {"latest": 1}})
    cluster.reconcile()
    assert "remove Pod/m-versions" in cluster.calls
    cluster.reconcile()
    assert "--from=s3://models/other" in cluster.objects[POD]["spec"]["containers"][0]["args"]
    assert (cluster.status["reason"], cluster.status["ready"]) == ("ListingVersions", "1/1")
    assert cluster.condition("Available")["status"] == "True"
    answers(cluster, told(9))
    cluster.settle()
    assert cluster.status["version"] == "9"


def test_what_does_not_change_the_question_asks_nothing() -> None:
    cluster = served(3)
    change(cluster, **LATEST, replicas=2)
    cluster.settle()
    assert not [call for call in cluster.calls if "Pod/" in call]
    assert cluster.status["version"] == "3"


def test_naming_the_versions_removes_the_pod_and_what_was_resolved() -> None:
    cluster = served(3)
    change(cluster, model={"uri": "s3://models/m", "versions": {"specific": [3]}})
    cluster.settle()
    assert cluster.names("Pod") == []
    assert "resolved" not in cluster.status
    assert "VersionsKnown" not in [one["type"] for one in cluster.status["conditions"]]


def test_a_spec_that_is_wrong_for_a_while_does_not_forget_what_was_resolved() -> None:
    cluster = served(3)
    (name,) = cluster.names("Deployment")
    change(cluster, **LATEST, replicas=2, scaling={"max": 3, "concurrency": 4})
    cluster.reconcile()
    assert cluster.status["reason"] == "InvalidSpec"
    del cluster.objects[POD]
    change(cluster, **LATEST)
    cluster.reconcile()
    assert cluster.names("Deployment") == [name]
    assert (cluster.status["reason"], cluster.status["version"]) == ("Serving", "3")


@pytest.mark.parametrize(
    ("versions", "there", "served_versions"),
    [
        pytest.param({"latest": 2}, (1, 3, 4), "3,4", id="latest"),
        pytest.param({"latest": 5}, (1, 3), "1,3", id="fewer-than-asked"),
        pytest.param({"all": {}}, (1, 3, 4), "1,3,4", id="all"),
    ],
)
def test_the_highest_or_all_of_them_serve(versions: Manifest, there: tuple[int, ...], served_versions: str) -> None:
    cluster = served(*there, model={"uri": "s3://models/m", "versions": versions})
    assert cluster.status["version"] == served_versions


def test_of_countless_versions_it_is_told_that_there_are_more() -> None:
    cluster = asked(model={"uri": "s3://models/m", "versions": {"all": {}}})
    answers(cluster, told(*range(1001, 1101), more=1000))
    cluster.settle()
    assert len(cluster.status["resolved"]["versions"]) == 100
    assert "1000 more" in cluster.condition("VersionsKnown")["message"]


def test_a_pod_that_hangs_or_was_put_out_is_made_anew() -> None:
    for phase, late in (("Running", "2026-01-01T00:11:00Z"), ("Failed", "2026-01-01T00:00:31Z")):
        cluster = asked()
        says(cluster, {"phase": phase})
        cluster.calls.clear()
        cluster.reconcile(now="2026-01-01T00:00:10Z")
        assert not [call for call in cluster.calls if "Pod/" in call]
        cluster.reconcile(now=late)
        cluster.reconcile(now=late)
        assert [call for call in cluster.calls if "Pod/" in call] == ["remove Pod/m-versions", "apply Pod/m-versions"]


def test_the_pod_has_the_models_credentials_and_no_token_and_is_restricted() -> None:
    made = listing_pod(Subject(inference_model(store="gs", model=SECRET), "u"), PLAIN)
    spec = made["spec"]
    (container,) = spec["containers"]
    assert container["args"] == ["fetch", "--list", "--from=gs://models/haiti-damage", "--most=1"]
    assert container["envFrom"] == [{"secretRef": {"name": "model-store"}}]
    assert spec["serviceAccountName"] == "m-server"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_a_claim_is_mounted_where_the_models_pods_are() -> None:
    made = listing_pod(Subject(inference_model(store="pvc"), "u"), PLAIN)["spec"]
    assert "--from=/models/m" in made["containers"][0]["args"]
    assert made["volumes"][0]["persistentVolumeClaim"]["claimName"] == "model-volume"
    assert "podAffinity" in made["affinity"]


@pytest.mark.parametrize("text", ["0", "-1", "5m", "1e3", "99999999"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ATALAYA_LISTING_SECONDS"):
        Platform.from_environment({"ATALAYA_LISTING_SECONDS": text})
