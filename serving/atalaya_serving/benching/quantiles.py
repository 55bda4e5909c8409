"""Latency in quantiles, each only where there are enough samples to tell it. Pure.

A quantile is the nearest rank: a latency that really occurred. With fewer than 1/(1-q) samples it would be the maximum
under another name, so it is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Milliseconds. None where `count` samples do not tell."""

    count: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


NO_LATENCY = Latency(0, None, None, None, None, None)


def latency(seconds: Sequence[float]) -> Latency:
    """Sum up latencies, in any order."""
    if not seconds:
        return NO_LATENCY
    ordered = sorted(seconds)
    mean = sum(ordered) / len(ordered)
    p50, p95, p99 = (_ms(quantile(ordered, percent)) for percent in (50, 95, 99))
    return Latency(len(ordered), _ms(mean), p50, p95, p99, _ms(ordered[-1]))


def quantile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest rank of ascending values; None with fewer samples than one beyond it needs."""
    if len(ordered) * (100 - percent) < 100:
        return None
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
