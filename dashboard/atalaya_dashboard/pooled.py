"""One history of a model over all the pods that serve it. Pure.

Their counters are not summed as they stand: a pod that goes would make the sum go down. What each counted since it was
last read is added to what all counted before. As Prometheus' rate() does, it leaves out what a pod that comes later had
counted before it was first read.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from atalaya_dashboard.metrics import ModelKey, ModelSample, Sample, growth

Of = TypeVar("Of")


class Pooled:
    """The bounded history of one source, which is one server or the pods of one model. Not safe for threads."""

    def __init__(self, length: int) -> None:
        self.samples: deque[Sample] = deque(maxlen=length)
        self._last: dict[str, Sample] = {}
        self._total: dict[ModelKey, ModelSample] = {}

    def add(self, at: float, read: Mapping[str, Sample]) -> None:
        """One round: what each server said, by its address. Nothing is kept of a round in which none answered."""
        if not read:
            return
        grown: dict[ModelKey, ModelSample] = {}
        for url, sample in read.items():
            for key, now in sample.models.items():
                more = self._growth(url, key, now)
                grown[key] = added(grown[key], more) if key in grown else more
            self._last[url] = sample
        self._total = {key: _continued(self._total.get(key), more) for key, more in grown.items()}
        info = next(iter(read.values())).info
        self.samples.append(Sample(at, self._total, info))

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget servers that are no more."""
        self._last = {url: sample for url, sample in self._last.items() if url in urls}

    def _growth(self, url: str, key: ModelKey, now: ModelSample) -> ModelSample:
        before = self._last.get(url)
        if before is not None:
            return growth(before.models.get(key, ModelSample()), now)
        return growth(now, now) if self.samples else now


def _continued(before: ModelSample | None, more: ModelSample) -> ModelSample:
    """The total of now; its gauges are those of `more`. An idle model's counts are kept once, not once a reading."""
    if before is None:
        return more
    total = added(replace(before, queue_depth=None, in_flight=None, ready=None), more)
    same = total.requests == before.requests and total.buckets == before.buckets
    return replace(total, buckets=before.buckets, requests=before.requests) if same else total


def added(one: ModelSample, other: ModelSample) -> ModelSample:
    """Two of them together; what neither tells stays untold."""
    return ModelSample(
        server=other.server or one.server,
        buckets=_sums(one.buckets, other.buckets),
        requests=_sums(one.requests, other.requests),
        images=_sum(one.images, other.images),
        queue_depth=_sum(one.queue_depth, other.queue_depth),
        in_flight=_sum(one.in_flight, other.in_flight),
        ready=_sum(one.ready, other.ready),
    )


def _sums(one: Mapping[Of, float], other: Mapping[Of, float]) -> dict[Of, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in (*one, *(key for key in other if key not in one))}


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other
