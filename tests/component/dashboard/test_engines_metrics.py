"""Live figures of all three engines, scraped from real servers under the originals' names."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from atalaya_dashboard.collector import Collector, Target
from atalaya_dashboard.metrics import ModelKey, Window
from atalaya_dashboard.views import resources
from builders_engines import NAMESPACE, RunningEngine, three_engines
from dashboard_pages import Run, words

ENGINES = ("atalaya", "openvino", "tensorflow")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningEngine]]:
    """All three."""
    with three_engines(tmp_path_factory.mktemp("models")) as running:
        yield dict(running)


def key(engine: str) -> ModelKey:
    return ModelKey("m", "" if engine == "tensorflow" else "3", NAMESPACE)


def latest(collector: Collector, engine: str) -> Window:
    (source,) = collector.sources()
    assert source.error == ""
    found = source.lately(key(engine), 60.0)
    assert found is not None
    return found.window


@pytest.mark.parametrize("engine", ENGINES)
def test_latency_rate_and_errors_are_those_of_inferences(engines: dict[str, RunningEngine], engine: str) -> None:
    server = engines[engine]
    server.call()
    collector = Collector(lambda: [server.target])
    collector.collect_once()
    server.call(10)
    server.fail(2)
    server.probe(7)
    collector.collect_once()
    found = latest(collector, engine)
    assert (found.requests, sum(found.errors.values())) == (12, 2)
    assert found.p50 > 0.01
    assert found.p50 <= found.p95 <= found.p99 < 60


@pytest.mark.parametrize(("engine", "queue", "in_flight"), [("atalaya", 3, 5), ("openvino", 3, 5)])
def test_the_queue_is_told_where_the_engine_tells_it(
    engines: dict[str, RunningEngine], engine: str, queue: int, in_flight: int
) -> None:
    server = engines[engine]
    collector = Collector(lambda: [server.target])
    collector.collect_once()
    with server.queueing(5):
        for _ in range(200):
            collector.collect_once()
            if latest(collector, engine).in_flight == in_flight:
                break
        assert (latest(collector, engine).queue_depth, latest(collector, engine).in_flight) == (queue, in_flight)


def test_what_tensorflow_serving_does_not_tell_is_not_nought(engines: dict[str, RunningEngine]) -> None:
    server = engines["tensorflow"]
    collector = Collector(lambda: [server.target])
    for _ in range(2):
        collector.collect_once()
    found = latest(collector, "tensorflow")
    assert (found.queue_depth, found.in_flight, found.images_per_second) == (None, None, None)


def test_a_plain_address_needs_no_word_of_its_engine(engines: dict[str, RunningEngine]) -> None:
    for server in engines.values():
        server.call()
    collector = Collector(lambda: [Target(server.target.url) for server in engines.values()])
    collector.collect_once()
    assert [str(key) for source in collector.sources() for key in source.models()] == ["m v3", "m v3", "m"]


def test_the_serving_page_shows_all_three_and_says_what_is_not_told(
    run: Run, engines: dict[str, RunningEngine]
) -> None:
    urls = ",".join(server.target.url for server in engines.values())
    for server in engines.values():
        server.call()
    run("serving", ATALAYA_METRICS_URLS=urls)
    resources.collector().collect_once()
    for server in engines.values():
        server.call(3)
    resources.collector().collect_once()
    at = run("serving")
    told = words(at)
    assert told.count("#### m v3") == 2
    assert "Not told by TensorFlow Serving: images/s, in queue, in flight." in told
    assert "Not told by OpenVINO Model Server: images/s." in told
    p50 = [metric.value for metric in at.metric if metric.label == "p50"]
    assert len(p50) == 3
    assert all(value.endswith(" ms") for value in p50)
    queues = [metric.value for metric in at.metric if metric.label == "in queue"]
    assert queues == ["0", "0", "not told"]


def test_an_engine_that_nobody_asked_has_no_latency(tmp_path: Path) -> None:
    with three_engines(tmp_path) as fresh:
        for engine, server in fresh.items():
            collector = Collector(lambda server=server: [server.target])  # type: ignore[misc]
            collector.collect_once()
            collector.collect_once()
            found = latest(collector, engine)
            assert math.isnan(found.p50)
            assert found.requests == 0
