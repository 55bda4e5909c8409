"""What Prometheus reads: the numbers that stats.py holds, under the names that docs/serve.md lists."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from atalaya_serving.about import server_version
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.engines.base import Engine
from atalaya_serving.stats import Histogram, Totals

_VERSION = ["model", "version"]


class ServingCollector(Collector):
    """Reads the state of the dataplane when it is scraped; a call in flight is never held up for it."""

    def __init__(self, dataplane: Dataplane, engine: Engine) -> None:
        self._dataplane, self._engine = dataplane, engine

    def collect(self) -> Iterator[Metric]:
        """All families."""
        served = self._dataplane.repository.served()
        rows = [([one.name, one.version_text], one.stats.snapshot()) for one in served]
        yield from _requests([*rows, (["", ""], self._dataplane.refused.snapshot())])
        yield _histograms("atalaya_inference_seconds", "Time in the engine", rows, "inference_seconds")
        yield _histograms(
            "atalaya_queue_seconds", "Time between arrival and the start of inference", rows, "queue_seconds"
        )
        inferences = CounterMetricFamily("atalaya_inferences", "Images computed (rows of a batch)", labels=_VERSION)
        for labels, totals in rows:
            inferences.add_metric(labels, totals.rows)
        yield inferences
        depth = GaugeMetricFamily("atalaya_queue_depth", "Calls that wait for a slot", labels=_VERSION)
        flight = GaugeMetricFamily("atalaya_requests_in_flight", "Calls that wait or compute", labels=_VERSION)
        for one in served:
            depth.add_metric([one.name, one.version_text], one.executor.depth)
            flight.add_metric([one.name, one.version_text], one.executor.depth + one.executor.running)
        yield depth
        yield flight
        yield self._ready()
        info = {"version": server_version(), **self._engine.describe()}
        about = GaugeMetricFamily("atalaya_info", "What serves; always 1", labels=list(info))
        about.add_metric(list(info.values()), 1)
        yield about

    def _ready(self) -> Metric:
        ready = GaugeMetricFamily(
            "atalaya_model_ready", "1 where the version serves, 0 where it cannot", labels=_VERSION
        )
        for line in self._dataplane.repository.index():
            ready.add_metric([line.name, line.version], 1 if line.state == "READY" else 0)
        return ready


def exposition(dataplane: Dataplane, engine: Engine) -> "Exposition":
    """What answers GET /metrics."""
    registry = CollectorRegistry()
    registry.register(ServingCollector(dataplane, engine))
    return Exposition(registry)


class Exposition:
    """The metrics as text."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def text(self) -> bytes:
        """All metrics now."""
        return bytes(generate_latest(self._registry))


def _requests(rows: list[tuple[list[str], Totals]]) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "atalaya_request_seconds", "Whole request on the server", labels=[*_VERSION, "protocol"]
    )
    counts = CounterMetricFamily("atalaya_requests", "Requests answered", labels=[*_VERSION, "protocol", "code"])
    for labels, totals in rows:
        for protocol, histogram in totals.request_seconds.items():
            seconds.add_metric([*labels, protocol], _buckets(histogram), histogram.total_seconds)
        for (protocol, code), count in totals.requests.items():
            counts.add_metric([*labels, protocol, code], count)
    yield seconds
    yield counts


def _histograms(name: str, told: str, rows: list[tuple[list[str], Totals]], field: str) -> Metric:
    family = HistogramMetricFamily(name, told, labels=_VERSION)
    for labels, totals in rows:
        histogram: Histogram = getattr(totals, field)
        family.add_metric(labels, _buckets(histogram), histogram.total_seconds)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total, made = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        made.append((bound, float(total)))
    return made
