"""The models page: what the cluster says of its models, from an API server over HTTPS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.cluster_access import PodAccount
from atalaya_dashboard.views import resources
from builders_cluster_pages import ApiServer, an_inference_model
from builders_cluster_pages import api_server as api_server_of
from dashboard_pages import Run, words

REFUSED = {"reason": "ModelNotFound", "message": "s3://models/<b>m</b> has no folder 3", "nextStep": "upload version 3"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A cluster that these pages run in."""
    account = tmp_path / "account"
    with api_server_of(account) as server:
        is_in = PodAccount.from_env.__func__  # type: ignore[attr-defined]
        monkeypatch.setattr(PodAccount, "from_env", classmethod(lambda cls, env, _=None: is_in(cls, env, account)))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def looked(run: Run) -> AppTest:
    """The page, once the cluster was asked again."""
    run("models")
    watch = resources.cluster_watch()
    assert watch is not None
    watch.look_once()
    return run("models")


def test_what_needs_somebody_comes_first_with_the_evidence_and_the_next_step(run: Run, server: ApiServer) -> None:
    server.models = [
        an_inference_model("good"),
        an_inference_model("late", ready=False),
        an_inference_model("wrong", ready=False, progressing=False, **REFUSED),
    ]
    at = looked(run)
    told = words(at)
    assert [each.value for each in at.main.markdown][:2] == [
        "## Models",
        "**⚠ 1 needs you** · **1 of 3 ready** · 1 getting ready",
    ]
    assert "⚠ 1 needs you" in told
    assert "1 of 3 ready" in told
    assert "1 getting ready" in told
    [card] = at.error
    assert card.value.startswith("**⚠ Needs you: relief/wrong · ModelNotFound**")
    assert r"\<b\>m\</b\> has no folder 3" in card.value
    assert "**Next:** upload version 3" in card.value
    assert "relief/late · Starting" in next(each.value for each in at.info)
    [table] = at.dataframe
    assert list(table.value["Name"]) == ["wrong", "late", "good"]
    assert list(table.value["State"]) == ["⚠ Needs you", "… Getting ready", "✓ Ready"]
    assert set(table.value.columns) >= {"Namespace", "Engine", "Device", "Version", "Pods ready", "Reason", "Message",
                                        "Next step", "Age"}  # fmt: skip


def test_a_chosen_model_shows_its_conditions_revisions_and_endpoints(run: Run, server: ApiServer) -> None:
    revision = {"name": "good-0123456789", "version": "3", "device": "cpu", "image": "ovms:<1>", "verdict": "Serving"}
    where = {"kserveV2": "good.relief.svc:9000", "metrics": ":8000/metrics"}
    server.models = [
        an_inference_model("good", revisions=[revision], endpoints=where),
        an_inference_model("wrong", ready=False, progressing=False, **REFUSED),
    ]
    at = looked(run)
    assert at.selectbox(key="looked-at").value == "relief/wrong"
    at = at.selectbox(key="looked-at").select("relief/good").run()
    told = words(at)
    assert "✓ Ready: relief/good" in told
    for part in ("Progressing", "good-0123456789", "ovms:&lt;1&gt;", "good.relief.svc:9000", ":8000/metrics"):
        assert part in told
    assert "kubectl describe im good -n relief" in told


def test_many_broken_models_do_not_push_the_table_away(run: Run, server: ApiServer) -> None:
    server.models = [an_inference_model(f"m-{number}", ready=False, progressing=False) for number in range(30)]
    at = looked(run)
    assert len(at.error) == 8
    assert "22 more are not ready" in words(at)
    assert len(at.dataframe[0].value) == 30


def test_a_cluster_without_models_says_how_to_make_one(run: Run, server: ApiServer) -> None:
    assert "kubectl apply -f MODEL.yaml" in words(looked(run))


@pytest.mark.parametrize(
    ("status", "words_for_it"),
    [
        pytest.param(403, "ATALAYA\\_NAMESPACE", id="not-allowed"),
        pytest.param(404, "kubectl apply --server-side", id="no-definition"),
        pytest.param(503, "503", id="away"),
    ],
)
def test_a_cluster_that_does_not_tell_says_why(run: Run, server: ApiServer, status: int, words_for_it: str) -> None:
    server.status = status
    told = words(looked(run))
    assert words_for_it in told
    assert "Traceback" not in told


def test_what_was_told_stays_with_its_age_when_the_cluster_goes_away(run: Run, server: ApiServer) -> None:
    server.models = [an_inference_model("good")]
    looked(run)
    server.close()
    at = looked(run)
    assert "Below is what it said" in at.error[0].value
    assert list(at.dataframe[0].value["Name"]) == ["good"]
    assert "No pod answers for" not in words(run("serving")), "that was some time ago"


def test_a_named_kubeconfig_gives_the_page_outside_a_cluster(run: Run, tmp_path: Path) -> None:
    with api_server_of(tmp_path / "account") as server:
        server.models = [an_inference_model("good")]
        at = run("models", ATALAYA_KUBECONFIG=str(server.kubeconfig()))
        assert "1 of 1 ready" in words(at)
        told = words(run("serving"))
        assert "set ATALAYA_PROMETHEUS_URL" in told
        assert "No pod answers" not in told


def test_outside_a_cluster_there_is_no_such_page(run: Run) -> None:
    assert "No scene has been assessed yet" in words(run("models")), "it is the map, as for any unknown page"


def test_serving_names_the_models_that_no_pod_answers_for(run: Run, server: ApiServer) -> None:
    server.models = [an_inference_model("wrong", ready=False, progressing=False)]
    looked(run)
    told = words(run("serving"))
    assert "No pod answers for relief/wrong; the page Models says why" in told
    assert "atalaya up" not in told
    assert "No pod of a model answers in this cluster" in words(run("map"))
