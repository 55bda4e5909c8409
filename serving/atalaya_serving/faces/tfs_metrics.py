"""The metrics of a `tensorflow_model_server`: its names, labels and buckets. Unknown models are not named."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from atalaya_serving.faces.exposition import Family
from atalaya_serving.repository import ModelRepository
from atalaya_serving.stats import Histogram, VersionStats

GRPC, REST = "GRPC", "REST"


def _bounds() -> tuple[float, ...]:
    """33 bounds from 10 µs, each 1.8 times the one before, as the original prints them: six digits."""
    bound, made = 10.0, []
    for _ in range(33):
        made.append(float(f"{bound:.6g}") / 1e6)
        bound *= 1.8
    return tuple(made)


BOUNDS_SECONDS = _bounds()


@dataclass
class TfsMetrics:
    """Counts by model, over all its versions and their changes."""

    repository: ModelRepository
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _latencies: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)
    _stats: dict[str, VersionStats] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new_stats(self, model: str) -> VersionStats:
        """One book for all versions of a model, so that the engine's time outlives a version."""
        with self._lock:
            return self._stats.setdefault(model, VersionStats(BOUNDS_SECONDS))

    def count(self, call: tuple[str, str, str], status: str, seconds: float) -> None:
        """One call of a model by an API at an entrypoint; only those that went well have a latency."""
        if call[0] not in self.repository.names():
            return
        with self._lock:
            key = (call[0], status)
            self._counts[key] = self._counts.get(key, 0) + 1
            if status == "OK":
                self._latencies.setdefault(call, Histogram(BOUNDS_SECONDS)).add(seconds)

    def families(self) -> Iterator[Family]:
        """All of them."""
        requests = Family(":tensorflow:serving:request_count", "counter")
        latency = Family(":tensorflow:serving:request_latency", "histogram")
        runtime = Family(":tensorflow:serving:runtime_latency", "histogram")
        with self._lock:
            for (model, status), count in sorted(self._counts.items()):
                requests.add({"model_name": model, "status": status}, count)
            for (model, api, entrypoint), histogram in sorted(self._latencies.items()):
                latency.add_histogram({"model_name": model, "API": api, "entrypoint": entrypoint}, histogram.copy())
            books = dict(self._stats)
        for model, stats in sorted(books.items()):
            inference = stats.snapshot().inference_seconds
            if inference.count:
                runtime.add_histogram({"model_name": model, "API": "Predict", "runtime": "TF1"}, inference)
        yield from (requests, latency, runtime)
