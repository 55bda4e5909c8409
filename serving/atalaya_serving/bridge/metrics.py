"""What Prometheus reads of a bridge, under the names that docs/bridge.md lists."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from atalaya_serving.about import server_version
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.metrics import Exposition
from atalaya_serving.stats import BOUNDS_SECONDS

_LABELS = ["model", "version", "protocol"]


class BridgeCollector(Collector):
    """Reads what the dataplane counted when it is scraped."""

    def __init__(self, dataplane: RemoteDataplane, info: dict[str, str]) -> None:
        self._dataplane, self._info = dataplane, {"version": server_version(), **info}

    def collect(self) -> Iterator[Metric]:
        """All families. A call that no version answered has empty labels: names from outside must not become labels."""
        plane = self._dataplane
        rows = [([one.name, one.version_text], one.stats.snapshot()) for one in plane.answerers()]
        seconds = HistogramMetricFamily(
            "atalaya_bridge_request_seconds", "Whole request, upstream and all", labels=_LABELS
        )
        counts = CounterMetricFamily("atalaya_bridge_requests", "Requests answered", labels=[*_LABELS, "code"])
        for labels, totals in [*rows, (["", ""], plane.refused.snapshot())]:
            for protocol, histogram in totals.request_seconds.items():
                bounds = zip((*map(str, BOUNDS_SECONDS), "+Inf"), accumulate(histogram.counts), strict=True)
                buckets = [(bound, float(count)) for bound, count in bounds]
                seconds.add_metric([*labels, protocol], buckets, histogram.total_seconds)
            for (protocol, code), count in totals.requests.items():
                counts.add_metric([*labels, protocol, code], count)
        yield seconds
        yield counts
        yield GaugeMetricFamily("atalaya_bridge_requests_in_flight", "Calls on their way", value=plane.in_flight)
        is_ready = float(plane.is_upstream_ready())
        yield GaugeMetricFamily("atalaya_bridge_upstream_ready", "1 where the upstream serves", value=is_ready)
        about = GaugeMetricFamily("atalaya_bridge_info", "What bridges; always 1", labels=list(self._info))
        about.add_metric(list(self._info.values()), 1)
        yield about


def exposition(dataplane: RemoteDataplane, info: dict[str, str]) -> Exposition:
    """What answers GET /metrics."""
    registry = CollectorRegistry()
    registry.register(BridgeCollector(dataplane, info))
    return Exposition(registry)
