"""The serving page, and the live strip of the map page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.views import resources
from builders_dashboard import FakeServer, a_town, an_assessed_town
from dashboard_pages import Run, words


@pytest.fixture
def metrics_url() -> Iterator[str]:
    """A real HTTP endpoint with our metrics."""
    server = FakeServer()
    server.answer(0.004, times=20)
    with server.over_http((0.004, 20)) as url:
        yield url


def test_without_a_server_the_pages_say_how_to_start_one(run: Run) -> None:
    for page in ("map", "serving"):
        assert "atalaya up" in words(run(page))


def test_a_server_that_does_not_answer_is_named(run: Run) -> None:
    run("serving", ATALAYA_METRICS_URLS="http://127.0.0.1:9/metrics")
    resources.collector().collect_once()
    told = words(run("serving"))
    assert "http://127.0.0.1:9/metrics: nothing listens there" in told
    assert "atalaya up" in told


def test_serving_shows_the_last_minute_of_each_model(run: Run, metrics_url: str) -> None:
    run("serving", ATALAYA_METRICS_URLS=metrics_url)
    collector = resources.collector()
    for _ in range(3):
        collector.collect_once()
    at = run("serving")
    assert "haiti-damage v1" in words(at)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["p50"].endswith(" ms")
    assert float(shown["requests/s"].replace(",", "")) > 0
    assert set(shown) == {"p50", "p95", "p99", "requests/s", "images/s", "errors/s", "in queue", "in flight"}
    assert "p95" in words(run("map")), "the map page has the live strip"


@pytest.mark.parametrize("page", ["map", "serving"])
def test_a_model_that_nobody_asked_has_no_latency_to_explain(run: Run, page: str) -> None:
    with FakeServer().over_http() as url:
        told = words(after_readings(run, page, url))
    assert "No request" in told
    assert "latency is since the server started" not in told


def test_serving_without_history_shows_what_was_before_and_how_to_get_some(run: Run) -> None:
    server = FakeServer()
    server.answer(0.004, times=570)
    server.answer(0.3, times=6, code="UNAVAILABLE")
    with server.over_http() as url:
        at = after_readings(run, "serving", url, ATALAYA_ENDPOINT="127.0.0.1:9000")
    told = words(at)
    assert "**576 requests** since the server started, 6 of them not answered" in told
    assert "atalaya assess SCENE.tif --endpoint 127.0.0.1:9000" in told
    assert len(at.get("vega_lite_chart")) == 1, "how long they took"


def test_several_busy_models_take_few_lines_beside_the_map(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6))
    server = FakeServer()
    for name in ("haiti-damage", "haiti-damage-fp32"):
        server.labels = (name, "1")
        server.answer(0.004, times=20)
    server.ready.labels("never-asked", "3").set(1)
    with server.over_http() as url:
        at = after_readings(run, "map", url)
    told = words(at)
    assert told.count('class="at-lines"') == 2
    assert '<div class="at-strip">' not in told
    assert "No request lately:" in told
    order = [str(getattr(element, "value", "")) for element in at.main]
    panel, live = (next(i for i, text in enumerate(order) if part in text) for part in ("Click a cell", "Live latency"))
    assert panel < live, "what was clicked is above the fold"


def after_readings(run: Run, page: str, url: str, **env: str) -> AppTest:
    """A page once the server was asked for its metrics."""
    run(page, ATALAYA_METRICS_URLS=url, **env)
    for _ in range(3):
        resources.collector().collect_once()
    return run(page)


def test_many_models_are_a_list_with_what_needs_a_look_first(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6))
    server = FakeServer("model-0")
    for number in range(9):
        server.labels = (f"model-{number}", "1")
        server.answer(0.004, times=number)
        server.ready.labels(*server.labels).set(1)
    with server.over_http() as url:
        run("serving", ATALAYA_METRICS_URLS=url)
        resources.collector().collect_once()
        for number in range(9):
            server.labels = (f"model-{number}", "1")
            server.answer(0.004, times=10 * number + 1)
        server.labels = ("model-3", "1")
        server.answer(0.3, times=2, code="UNAVAILABLE")
        resources.collector().collect_once()
        at = run("serving")
        told = words(run("map"))
    assert "9 models" in words(at)
    [table] = at.dataframe
    assert list(table.value["Model"])[:3] == ["model-3 v1", "model-8 v1", "model-7 v1"]
    assert len([metric for metric in at.metric if metric.label == "p50"]) == 1, "one in full"
    at = at.selectbox(key="serving-looked-at").select(f"model-5 v1, {url}").run()
    assert "#### model-5 v1" in words(at)
    assert "3 more models are on the page Serving" in told
    assert "model-3" in told
