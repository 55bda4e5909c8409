"""Reads what a server of ours says at /metrics, and turns two readings into figures a person understands.

Pure: text in, numbers out. Fetching and history are in `collector.py`. A counter that went down means that the server
started again: what it has now is then taken as everything since.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from prometheus_client.parser import text_string_to_metric_families

from atalaya_dashboard.errors import MetricsUnreadable

REQUEST_SECONDS = "atalaya_request_seconds"
INFERENCE_SECONDS = "atalaya_inference_seconds"
QUEUE_SECONDS = "atalaya_queue_seconds"
_HISTOGRAMS = (REQUEST_SECONDS, INFERENCE_SECONDS, QUEUE_SECONDS)
_GAUGES = ("atalaya_queue_depth", "atalaya_requests_in_flight", "atalaya_model_ready")


@dataclass(frozen=True, order=True)
class ModelKey:
    """One version of one model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}" if self.version else self.name


@dataclass(frozen=True)
class ModelSample:
    """What was counted for one model up to a moment. Buckets are cumulative: upper bound in seconds -> count."""

    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    requests: Mapping[str, float] = field(default_factory=dict)
    """By code, `OK` or a gRPC status name."""
    images: float = 0.0
    gauges: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One reading of one server, at `at` seconds since the epoch."""

    at: float
    models: Mapping[ModelKey, ModelSample]
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """What happened between two readings. Latencies are seconds on the server; NaN when nothing was asked."""

    seconds: float
    requests: float
    errors: Mapping[str, float]
    requests_per_second: float
    images_per_second: float
    p50: float
    p95: float
    p99: float
    queue_depth: float
    in_flight: float
    ready: bool

    @property
    def errors_per_second(self) -> float:
        """Requests that did not end in OK."""
        return sum(self.errors.values()) / self.seconds if self.seconds > 0 else 0.0


def parse(text: str, at: float) -> Sample:
    """Read an exposition. Raises MetricsUnreadable when it is none, or holds nothing of ours."""
    gathered: dict[ModelKey, _Gathering] = {}
    info: dict[str, str] = {}
    ours = False
    try:
        for family in text_string_to_metric_families(text):
            ours = ours or family.name.startswith("atalaya_")
            for sample in family.samples:
                if sample.name == "atalaya_info":
                    info = dict(sample.labels)
                elif sample.name.startswith("atalaya_") and "model" in sample.labels:
                    key = ModelKey(sample.labels["model"], sample.labels.get("version", ""))
                    gathered.setdefault(key, _Gathering()).add(sample.name, sample.labels, sample.value)
    except ValueError as error:
        raise MetricsUnreadable(f"the answer is not a Prometheus text: {error}; check the address.") from error
    if not ours:
        raise MetricsUnreadable("the answer has no atalaya_* metric; point ATALAYA_METRICS_URLS at a server of ours.")
    return Sample(at, {key: found.sample() for key, found in gathered.items()}, info)


class _Gathering:
    """Sums the series of one model over protocols while an exposition is read."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[float, float]] = {}
        self.requests: dict[str, float] = {}
        self.images = 0.0
        self.gauges: dict[str, float] = {}

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        base = name.removesuffix("_bucket")
        if base in _HISTOGRAMS and "le" in labels:
            counts = self.buckets.setdefault(base, {})
            bound = float(labels["le"])
            counts[bound] = counts.get(bound, 0.0) + value
        elif name == "atalaya_requests_total":
            code = labels.get("code", "OK")
            self.requests[code] = self.requests.get(code, 0.0) + value
        elif name == "atalaya_inferences_total":
            self.images += value
        elif name in _GAUGES:
            self.gauges[name] = self.gauges.get(name, 0.0) + value

    def sample(self) -> ModelSample:
        return ModelSample(self.buckets, self.requests, self.images, self.gauges)


def quantile(q: float, buckets: Mapping[float, float]) -> float:
    """The q-quantile of cumulative `buckets`, as Prometheus' histogram_quantile: linear inside a bucket.

    NaN without observations; the highest finite bound when the quantile lies above it.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return math.nan
    rank, lower, below = q * total, 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def increase(earlier: float, later: float) -> float:
    """How much a counter grew; all of it when it started again in between."""
    return later - earlier if later >= earlier else later


def bucket_increase(earlier: Mapping[float, float], later: Mapping[float, float]) -> dict[float, float]:
    """What was observed between two states of a histogram."""
    restarted = any(later.get(bound, 0.0) < count for bound, count in earlier.items())
    return {bound: count - (0.0 if restarted else earlier.get(bound, 0.0)) for bound, count in later.items()}


def window(earlier: Sample, later: Sample, key: ModelKey) -> Window:
    """What happened to one model between two readings of one server."""
    before, now = earlier.models.get(key, ModelSample()), later.models.get(key, ModelSample())
    seconds = max(later.at - earlier.at, 0.0)
    by_code = {code: increase(before.requests.get(code, 0.0), count) for code, count in now.requests.items()}
    latency = bucket_increase(before.buckets.get(REQUEST_SECONDS, {}), now.buckets.get(REQUEST_SECONDS, {}))
    requests = sum(by_code.values())
    return Window(
        seconds=seconds,
        requests=requests,
        errors={code: count for code, count in by_code.items() if code != "OK" and count > 0},
        requests_per_second=requests / seconds if seconds else 0.0,
        images_per_second=increase(before.images, now.images) / seconds if seconds else 0.0,
        p50=quantile(0.50, latency),
        p95=quantile(0.95, latency),
        p99=quantile(0.99, latency),
        queue_depth=now.gauges.get("atalaya_queue_depth", 0.0),
        in_flight=now.gauges.get("atalaya_requests_in_flight", 0.0),
        ready=now.gauges.get("atalaya_model_ready", 1.0) > 0,
    )


def since_start(sample: Sample, key: ModelKey) -> Window:
    """All that the server counted for a model since it started; the rates are 0, as its start is not known."""
    return window(Sample(sample.at, {}), sample, key)


def windows(samples: Sequence[Sample], key: ModelKey, step_seconds: float) -> list[tuple[float, Window]]:
    """The history of one model: one window about every `step_seconds`, oldest first, each at its end."""
    made: list[tuple[float, Window]] = []
    start: Sample | None = None
    for sample in samples:
        if start is None:
            start = sample
        elif sample.at - start.at >= step_seconds - 1e-6:
            made.append((sample.at, window(start, sample, key)))
            start = sample
    return made


@dataclass(frozen=True)
class Lately:
    """The last minute of a model. Its latency is `since_start` when nobody asked it in that time."""

    window: Window
    idle: bool

    @property
    def never_asked(self) -> bool:
        """Whether the server has answered nothing for this model since it started."""
        return self.idle and math.isnan(self.window.p50)


def lately(samples: Sequence[Sample], key: ModelKey, seconds: float) -> Lately | None:
    """What happened in about the last `seconds`; None before there are two readings."""
    if len(samples) < 2:
        return None
    latest = samples[-1]
    earlier = next((s for s in samples[:-1] if latest.at - s.at <= seconds), samples[-2])
    found = window(earlier, latest, key)
    if found.requests:
        return Lately(found, idle=False)
    whole = since_start(latest, key)
    return Lately(replace(found, p50=whole.p50, p95=whole.p95, p99=whole.p99), idle=True)
