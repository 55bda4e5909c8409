"""Latency, rates and errors from what a server says at /metrics."""

import math

import numpy as np
import pytest

from atalaya_dashboard.errors import MetricsUnreadable
from atalaya_dashboard.exposition import parse
from atalaya_dashboard.metrics import ModelKey, increase, lately, quantile, window, windows
from builders_dashboard import FakeServer

KEY = ModelKey("haiti-damage", "1")
INF = math.inf


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        pytest.param(0.5, {0.1: 10.0, 0.2: 20.0, INF: 20.0}, 0.1, id="on-a-bound"),
        pytest.param(0.75, {0.1: 10.0, 0.2: 20.0, INF: 20.0}, 0.15, id="half-way-into-a-bucket"),
        pytest.param(0.5, {0.1: 4.0, INF: 4.0}, 0.05, id="first-bucket-begins-at-zero"),
        pytest.param(0.99, {0.1: 1.0, 0.5: 1.0, INF: 10.0}, 0.5, id="above-the-last-bound-gives-that-bound"),
        pytest.param(0.9, {0.1: 0.0, 0.2: 0.0, 0.4: 10.0, INF: 10.0}, 0.38, id="empty-buckets-are-passed-over"),
    ],
)
def test_a_quantile_is_what_prometheus_would_say(q: float, buckets: dict[float, float], expected: float) -> None:
    assert quantile(q, buckets) == pytest.approx(expected)


@pytest.mark.parametrize("buckets", [{}, {0.1: 0.0, INF: 0.0}], ids=["no-buckets", "no-observations"])
def test_without_observations_there_is_no_quantile(buckets: dict[float, float]) -> None:
    assert math.isnan(quantile(0.5, buckets))


def test_quantiles_of_a_real_histogram_lie_within_the_bucket_of_the_true_ones() -> None:
    server = FakeServer()
    seconds = np.random.default_rng(1).lognormal(-4.5, 0.6, 4000)
    for value in seconds:
        server.answer(float(value))
    found = parse(server.text(), 0.0).models[KEY].buckets
    bounds = [0.0, *sorted(found)]
    for q in (0.5, 0.95, 0.99):
        true = float(np.quantile(seconds, q))
        upper = next(bound for bound in bounds if bound >= true)
        lower = bounds[bounds.index(upper) - 1]
        assert lower <= quantile(q, found) <= upper


def test_a_window_counts_only_what_happened_in_it() -> None:
    server = FakeServer()
    server.answer(0.9, times=50)
    before = parse(server.text(), 100.0)
    server.answer(0.004, times=30, images=4)
    server.answer(0.2, times=10, code="RESOURCE_EXHAUSTED")
    server.queue.labels("haiti-damage", "1").set(7)
    found = window(before, parse(server.text(), 110.0), KEY)
    assert found.requests == 40
    assert found.requests_per_second == pytest.approx(4.0)
    assert found.images_per_second == pytest.approx(12.0)
    assert found.errors == {"RESOURCE_EXHAUSTED": 10.0}
    assert found.errors_per_second == pytest.approx(1.0)
    assert found.queue_depth == 7
    assert 0.0025 < found.p50 < 0.005
    assert 0.1 < found.p95 < 0.25


def test_the_protocols_of_a_model_are_added_up() -> None:
    server = FakeServer()
    server.answer(0.004, times=3, protocol="grpc")
    server.answer(0.004, times=2, protocol="rest")
    found = parse(server.text(), 0.0).models[KEY]
    assert found.requests == {"OK": 5.0}
    assert found.buckets[INF] == 5.0


def test_a_restarted_server_does_not_count_backwards() -> None:
    old, new = FakeServer(), FakeServer()
    old.answer(0.9, times=100)
    new.answer(0.004, times=5)
    found = window(parse(old.text(), 0.0), parse(new.text(), 10.0), KEY)
    assert found.requests == 5
    assert found.p99 < 0.006
    assert increase(10.0, 3.0) == 3.0


def test_a_model_that_nobody_asks_has_no_latency_and_no_errors() -> None:
    server = FakeServer()
    found = window(parse(server.text(), 0.0), parse(server.text(), 10.0), KEY)
    assert math.isnan(found.p50)
    assert (found.requests, found.errors_per_second, found.ready) == (0, 0.0, True)


def test_a_model_that_is_not_ready_says_so() -> None:
    server = FakeServer()
    server.ready.labels("haiti-damage", "1").set(0)
    assert not window(parse(server.text(), 0.0), parse(server.text(), 1.0), KEY).ready


def test_history_has_a_window_a_step() -> None:
    server, samples = FakeServer(), []
    for at in range(0, 61, 2):
        server.answer(0.004, times=4)
        samples.append(parse(server.text(), float(at)))
    made = windows(samples, KEY, 10.0)
    assert [at for at, _ in made] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert all(found.requests_per_second == pytest.approx(2.0) for _, found in made)


def test_the_last_minute_needs_two_readings() -> None:
    server = FakeServer()
    first = parse(server.text(), 0.0)
    assert lately([first], KEY, 60.0) is None
    server.answer(0.004, times=10)
    found = lately([first, parse(server.text(), 500.0)], KEY, 60.0)
    assert found is not None
    assert not found.idle
    assert found.window.seconds == 500.0


def test_an_idle_model_shows_the_latency_since_its_server_started_and_no_rate() -> None:
    server = FakeServer()
    server.answer(0.004, times=10)
    samples = [parse(server.text(), at) for at in (0.0, 30.0, 60.0)]
    found = lately(samples, KEY, 60.0)
    assert found is not None
    assert found.idle
    assert 0.0025 < found.window.p50 < 0.005
    assert (found.window.requests, found.window.requests_per_second) == (0, 0.0)


@pytest.mark.parametrize(
    "text",
    ["<html>not found</html>", "", "python_gc_objects_collected_total 3.0\n", 'atalaya_queue_depth{model="x" 3\n'],
    ids=["html", "empty", "of-another-program", "broken"],
)
def test_what_is_not_our_metrics_is_refused(text: str) -> None:
    with pytest.raises(MetricsUnreadable):
        parse(text, 0.0)
