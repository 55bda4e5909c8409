"""The models page: what the cluster says of its models."""

import pytest

from atalaya_dashboard.cluster_models import ClusterModel, ClusterModels
from atalaya_dashboard.errors import ClusterUnreadable
from dashboard_pages import Run, words


class Cluster:
    """Answers what a test wants."""

    def __init__(self, *models: ClusterModel, fails: bool = False) -> None:
        self.models, self.fails = models, fails

    def list(self) -> list[ClusterModel]:
        if self.fails:
            raise ClusterUnreadable("the cluster does not answer (refused); the pages ask again.")
        return list(self.models)


def model(name: str, *, is_ready: bool = True, **fields: str) -> ClusterModel:
    plain = {"namespace": "default", "engine": "openvino", "device": "cpu", "version": "1", "ready": "1/1"}
    plain |= {"reason": "Serving", "message": "", "next_step": ""}
    return ClusterModel(name=name, is_ready=is_ready, **{**plain, **fields})


def in_a_cluster(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    monkeypatch.setattr(ClusterModels, "from_env", classmethod(lambda cls, env: cluster))


def test_what_is_not_ready_is_told_with_the_next_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {"reason": "Starting", "message": "<b>no pod</b> answers", "next_step": "look at its log"}
    in_a_cluster(monkeypatch, Cluster(model("late", is_ready=False, **waiting), model("good")))
    at = run("models")
    told = words(at)
    assert "1 of 2 ready" in told
    assert "default/late: Starting" in told
    assert r"\<b\>no pod" in told
    assert "**Next:** look at its log" in told
    [table] = at.dataframe
    assert list(table.value["Model"]) == ["late", "good"]


def test_a_cluster_without_models_says_how_to_make_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_cluster(monkeypatch, Cluster())
    assert "kubectl apply -f MODEL.yaml" in words(run("models"))


def test_a_cluster_that_does_not_answer_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_cluster(monkeypatch, Cluster(fails=True))
    assert "the cluster does not answer" in words(run("models"))
