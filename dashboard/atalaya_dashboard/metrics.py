"""Turns two readings of a model server into figures a person understands: latency, rates, errors, queue.

Pure, and the same for every engine. Reading is in `exposition.py`, fetching and history in `collector.py`. A counter
that went down means that the server started again: what it has now is then taken as everything since.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from atalaya_spec.signals import OK


@dataclass(frozen=True)
class ModelKey:
    """One version of one model; a server that does not tell versions apart leaves it empty."""

    name: str
    version: str
    namespace: str = ""

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{name} v{self.version}" if self.version else name


@dataclass(frozen=True)
class ModelSample:
    """What was counted for one model up to a moment. None is what the server does not tell."""

    server: str = ""
    """Which model server told it, for people."""
    buckets: Mapping[float, float] = field(default_factory=dict)
    """Whole requests, cumulative: upper bound in seconds -> count."""
    requests: Mapping[str, float] = field(default_factory=dict)
    """By code, `OK` or what went wrong."""
    images: float | None = None
    queue_depth: float | None = None
    in_flight: float | None = None
    ready: float | None = None


@dataclass(frozen=True)
class Sample:
    """One reading, at `at` seconds since the epoch."""

    at: float
    models: Mapping[ModelKey, ModelSample]
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """What happened between two readings. Latencies are seconds on the server; NaN when nothing was asked.

    None is what the `server` does not tell.
    """

    seconds: float
    requests: float
    errors: Mapping[str, float]
    requests_per_second: float
    images_per_second: float | None
    p50: float
    p95: float
    p99: float
    queue_depth: float | None
    in_flight: float | None
    ready: bool
    server: str = ""

    @property
    def errors_per_second(self) -> float:
        """Requests that did not end in OK."""
        return sum(self.errors.values()) / self.seconds if self.seconds > 0 else 0.0


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


def growth(earlier: ModelSample, later: ModelSample) -> ModelSample:
    """What was counted between two states of one server; gauges as they are now."""
    images = None if later.images is None else increase(earlier.images or 0.0, later.images)
    return replace(
        later,
        buckets=bucket_increase(earlier.buckets, later.buckets),
        requests={code: increase(earlier.requests.get(code, 0.0), count) for code, count in later.requests.items()},
        images=images,
    )


def window(earlier: Sample, later: Sample, key: ModelKey) -> Window:
    """What happened to one model between two readings."""
    now = later.models.get(key, ModelSample())
    grown = growth(earlier.models.get(key, ModelSample()), now)
    seconds = max(later.at - earlier.at, 0.0)
    requests = sum(grown.requests.values())

    def rate(count: float) -> float:
        return count / seconds if seconds else 0.0

    return Window(
        seconds=seconds,
        requests=requests,
        errors={code: count for code, count in grown.requests.items() if code != OK and count > 0},
        requests_per_second=rate(requests),
        images_per_second=None if grown.images is None else rate(grown.images),
        p50=quantile(0.50, grown.buckets),
        p95=quantile(0.95, grown.buckets),
        p99=quantile(0.99, grown.buckets),
        queue_depth=now.queue_depth,
        in_flight=now.in_flight,
        ready=now.ready is None or now.ready > 0,
        server=now.server,
    )


def since_start(sample: Sample, key: ModelKey) -> Window:
    """All that was counted for a model since its server started; the rates are 0, as its start is not known."""
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
        """Whether nothing is known that was answered for this model."""
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
