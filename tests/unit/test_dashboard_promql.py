"""The queries that a Prometheus is asked, its answers, and the history that is kept of them."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from atalaya_dashboard.errors import PrometheusUnreadable
from atalaya_dashboard.metrics import ModelKey
from atalaya_dashboard.prometheus import HISTORY_SECONDS, STEP_SECONDS, PrometheusWatch
from atalaya_dashboard.promql import query, told
from atalaya_spec.signals import ALL, ATALAYA, OPENVINO, TENSORFLOW, Signals

KEY = ModelKey("m", "3", "relief")


def series(signal: str, *points: tuple[float, str], **labels: str) -> dict[str, Any]:
    metric = {"namespace": "relief", "name": "m", "version": "3", "atalaya_signal": signal, **labels}
    if len(points) == 1:
        return {"metric": metric, "value": list(points[0])}
    return {"metric": metric, "values": [list(point) for point in points]}


@pytest.mark.parametrize("signals", ALL, ids=lambda one: one.engine)
def test_a_query_asks_for_what_the_engine_tells_and_for_nothing_else(signals: Signals) -> None:
    asked = query(signals)
    for name in (signals.latency, signals.images, signals.in_flight, signals.queue, signals.capacity, signals.ready):
        assert name in asked
    assert all(one.name in asked for one in signals.requests)
    assert ('"queue"' in asked) == bool(signals.queue or signals.capacity)
    assert not any(other.prefix in asked.replace("atalaya_signal", "").replace("atalaya_code", "")
                   for other in ALL if other is not signals)  # fmt: skip
    assert asked.count("(") == asked.count(")")


def test_an_answer_is_read_into_what_the_page_shows() -> None:
    answer = [
        series("p50", (10.0, "0.004")),
        series("p95", (10.0, "0.02")),
        series("p99", (10.0, "NaN")),
        series("requests", (10.0, "5"), atalaya_code="OK"),
        series("requests", (10.0, "0.5"), atalaya_code="FAILED"),
        series("in flight", (10.0, "4")),
        series("queue", (10.0, "2")),
    ]
    found = told(answer, OPENVINO)[10.0][KEY]
    assert (found.p50, found.p95, found.requests_per_second, found.queue_depth) == (0.004, 0.02, 5.5, 2)
    assert math.isnan(found.p99)
    assert found.errors_per_second == pytest.approx(0.5)
    assert (found.errors, found.images_per_second) == ({"FAILED": 60.0}, None)


def test_what_an_engine_does_not_tell_is_not_nought() -> None:
    labels = {"namespace": "relief", "model_name": "m", "atalaya_signal": "requests", "atalaya_code": "OK"}
    found = told([{"metric": labels, "value": [1.0, "0"]}], TENSORFLOW)[1.0][ModelKey("m", "", "relief")]
    assert (found.queue_depth, found.in_flight, found.images_per_second) == (None, None, None)
    assert found.server == "TensorFlow Serving"


class Prometheus:
    """Answers about OpenVINO only, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.answer: Any = None

    def __call__(self, path: str, given: Mapping[str, str]) -> list[Any]:
        self.asked.append((path, given))
        if isinstance(self.answer, Exception):
            raise self.answer
        if "ovms_" not in given["query"]:
            return []
        if path == "query":
            return [series("requests", (float(given["time"]), "2"), atalaya_code="OK")]
        start = float(given["start"])
        points = [(start + STEP_SECONDS * index, "1") for index in range(int(HISTORY_SECONDS / STEP_SECONDS) + 1)]
        return [series("requests", *points, atalaya_code="OK")]


def watching() -> tuple[PrometheusWatch, Prometheus, list[float]]:
    prometheus, now = Prometheus(), [10_000.0]
    return PrometheusWatch("http://p:9090/", prometheus, lambda: now[0]), prometheus, now


def test_the_first_answer_brings_the_half_hour_before_and_the_next_one_moment() -> None:
    watch, prometheus, now = watching()
    watch.ask_once()
    assert [path for path, _ in prometheus.asked] == ["query_range"] * len(ALL)
    history = watch.source().history(KEY, 1800, 90)
    assert (history[0][0], history[-1][0]) == (8200.0, 10_000.0)
    now[0] += 5
    watch.ask_once()
    assert [path for path, _ in prometheus.asked[len(ALL) :]] == ["query"] * len(ALL)
    found = watch.source().lately(KEY, 60.0)
    assert found is not None
    assert (found.window.requests_per_second, found.idle) == (2.0, False)
    assert len(watch.source().history(KEY, 300, 90)) <= 90


def test_the_history_is_bounded() -> None:
    watch, _, now = watching()
    for _ in range(800):
        watch.ask_once()
        now[0] += 5
    assert len(watch.source().moments) <= HISTORY_SECONDS / 5 + 1
    assert watch.source().moments[0][0] >= now[0] - HISTORY_SECONDS - 10


def test_a_prometheus_that_is_away_is_told_and_its_history_stays() -> None:
    watch, prometheus, _ = watching()
    watch.ask_once()
    prometheus.answer = PrometheusUnreadable("nothing listens there")
    watch.ask_once()
    source = watch.source()
    assert (source.error, source.is_silent, source.models()) == ("nothing listens there", True, [KEY])
    assert "ATALAYA_PROMETHEUS_URL" in source.advice


def test_a_prometheus_that_knows_no_model_says_what_to_look_at() -> None:
    watch = PrometheusWatch("http://p", lambda path, given: [], lambda: 1000.0)
    watch.ask_once()
    assert "prometheus.io" in watch.source().waiting
    assert watch.source().error == ""


@pytest.mark.parametrize("answer", [[{"metric": {}, "value": [1, "1"]}], [{"value": 3}], [1]])
def test_an_answer_that_is_none_of_prometheus_is_told(answer: list[Any]) -> None:
    watch = PrometheusWatch("http://p", lambda path, given: answer, lambda: 1000.0)
    watch.ask_once()
    assert "not as a Prometheus does" in watch.source().error


def test_nothing_is_asked_of_what_is_no_address() -> None:
    watch = PrometheusWatch("file:///etc", clock=lambda: 1000.0)
    watch.ask_once()
    assert "http://" in watch.source().error


def test_the_requests_of_probes_are_not_counted() -> None:
    assert 'method=~"ModelInfer|ModelInferStream|Predict"' in query(OPENVINO)
    assert "method" not in query(ATALAYA)
