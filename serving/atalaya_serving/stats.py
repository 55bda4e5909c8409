"""What one served version has done: counts and latency histograms, taken under one lock a request.

prometheus_client's own histograms take a lock and a lookup a sample, 10 µs a request in all; this takes under 3.
metrics.py shows these numbers to Prometheus, grpc_v2.py and rest_v2.py as Triton's statistics.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

BOUNDS_SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
    0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; the last has no upper bound."""

    bounds: Sequence[float] = BOUNDS_SECONDS
    counts: list[int] = field(default_factory=list)
    total_seconds: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, seconds: float) -> None:
        """Count one sample."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds
        self.count += 1

    def copy(self) -> "Histogram":
        """The same numbers, apart."""
        return Histogram(self.bounds, list(self.counts), self.total_seconds, self.count)


@dataclass(slots=True)
class Totals:
    """Everything counted so far. Keys of `requests` are (protocol, code)."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    request_seconds: dict[str, Histogram] = field(default_factory=dict)
    inference_seconds: Histogram = field(default_factory=Histogram)
    queue_seconds: Histogram = field(default_factory=Histogram)
    rows: int = 0
    executions: int = 0
    success_seconds: float = 0.0
    failures: int = 0
    failure_seconds: float = 0.0
    batches: dict[int, tuple[int, float]] = field(default_factory=dict)
    last_inference_unix: float = 0.0

    def copy(self) -> "Totals":
        """A snapshot that later requests do not change."""
        return Totals(
            dict(self.requests),
            {protocol: histogram.copy() for protocol, histogram in self.request_seconds.items()},
            self.inference_seconds.copy(),
            self.queue_seconds.copy(),
            self.rows,
            self.executions,
            self.success_seconds,
            self.failures,
            self.failure_seconds,
            dict(self.batches),
            self.last_inference_unix,
        )


@dataclass(frozen=True, slots=True)
class Execution:
    """One inference that ran: how long it had waited and how long it took."""

    rows: int
    queue_seconds: float
    inference_seconds: float


_SIZES_APART = 128


def batch_size(rows: int) -> int:
    """The size under which a batch is counted: its own, and past 128 the next power of two, so that they stay few."""
    return rows if rows <= _SIZES_APART else 1 << (rows - 1).bit_length()


class VersionStats:
    """The totals of one version."""

    def __init__(self, bounds: Sequence[float] = BOUNDS_SECONDS) -> None:
        """`bounds` are the histograms' upper bounds, in seconds."""
        self._lock = threading.Lock()
        self._bounds = bounds
        self._totals = Totals(inference_seconds=Histogram(bounds), queue_seconds=Histogram(bounds))

    def record(self, protocol: str, code: str, seconds: float, execution: Execution | None) -> None:
        """Count one request that is answered; `execution` is None where nothing was computed."""
        with self._lock:
            totals = self._totals
            key = (protocol, code)
            totals.requests[key] = totals.requests.get(key, 0) + 1
            histogram = totals.request_seconds.get(protocol)
            if histogram is None:
                histogram = totals.request_seconds[protocol] = Histogram(self._bounds)
            histogram.add(seconds)
            if code == "OK":
                totals.success_seconds += seconds
            else:
                totals.failures += 1
                totals.failure_seconds += seconds
            if execution is not None:
                self._count(totals, execution)

    def _count(self, totals: Totals, execution: Execution) -> None:
        totals.queue_seconds.add(execution.queue_seconds)
        totals.inference_seconds.add(execution.inference_seconds)
        totals.rows += execution.rows
        totals.executions += 1
        size = batch_size(execution.rows)
        count, seconds = totals.batches.get(size, (0, 0.0))
        totals.batches[size] = (count + 1, seconds + execution.inference_seconds)
        totals.last_inference_unix = time.time()

    def snapshot(self) -> Totals:
        """All totals at one moment."""
        with self._lock:
            return self._totals.copy()
