"""How many tiles are damaged, honestly: the sum of calibrated probabilities, with an interval.

Tiles fall independently, each with its own probability: a Poisson-binomial law. The calibration itself is uncertain
too: each bootstrap pair of the manifest is one plausible recalibration, and the interval is that of the mixture over
them. Nothing here is random: a pair's law comes from its characteristic function where its variance is small (exact),
and from a normal law with skewness where it is large (wrong by far less than one tile).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_EXACT_BELOW_VARIANCE = 100.0
_BINS = 2048
_SAFE = 1e-12


@dataclass(frozen=True)
class Count:
    """`expected` damaged tiles among `n` assessed ones, and an interval that holds the count with the level asked."""

    expected: float
    low: float
    high: float
    n: int


def count_damaged(
    probabilities: npt.ArrayLike,
    calibration_bootstrap: tuple[Sequence[float], Sequence[float]] | None,
    level: float = 0.90,
) -> Count:
    """Count damaged tiles from calibrated probabilities; NaN (not assessed) is left out, never taken for safe.

    `calibration_bootstrap` is (slopes, intercepts): sigmoid(a * logit(p) + b) for each pair; None or empty lists mean
    that the calibration is taken as exact.
    """
    p = np.asarray(probabilities, np.float64).ravel()
    p = p[~np.isnan(p)]
    if not len(p):
        return Count(0.0, 0.0, 0.0, 0)
    slopes, intercepts = calibration_bootstrap or ((), ())
    pairs = list(zip(slopes, intercepts, strict=True)) or [(1.0, 0.0)]
    values, counts = _binned(p)
    laws = [_law(_recalibrated(values, a, b), counts) for a, b in pairs]
    low, high = (_quantile(laws, q) for q in ((1 - level) / 2, (1 + level) / 2))
    expected = float(p.sum())
    return Count(expected, min(low, expected), max(high, expected), len(p))


def _recalibrated(p: Floats, slope: float, intercept: float) -> Floats:
    if (slope, intercept) == (1.0, 0.0):
        return p
    z = slope * _log_odds(p) + intercept
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


@dataclass(frozen=True)
class _Law:
    """P(count <= first + i) is cumulative[i]."""

    first: int
    cumulative: Floats

    def at(self, count: int) -> float:
        index = count - self.first
        if index < 0:
            return 0.0
        return float(self.cumulative[index]) if index < len(self.cumulative) else 1.0


def _law(p: Floats, counts: Floats) -> _Law:
    """The law of tiles of which `counts` have the probability `p`."""
    variance = float(counts @ (p * (1 - p)))
    return _exact(p, counts, variance) if variance < _EXACT_BELOW_VARIANCE else _normal(p, counts, variance)


def _exact(p: Floats, counts: Floats, variance: float) -> _Law:
    """The law by a discrete Fourier transform of its characteristic function, over a span that holds all its mass."""
    mean = float(counts @ p)
    span = int(24 * np.sqrt(variance)) + 80
    first = max(0, int(mean) - span // 2)
    # The conjugate half is redundant: irfft takes the first half only.
    turn = np.exp(-2j * np.pi * np.arange(span // 2 + 1) / span)
    phi = 1 - p[:, None] + p[:, None] * turn
    log_phi = counts @ np.log(np.maximum(np.abs(phi), 1e-300)) + 1j * (counts @ np.angle(phi))
    pmf = np.fft.irfft(np.exp(log_phi) / turn**first, span)
    return _Law(first, np.clip(np.cumsum(np.clip(pmf, 0, None)), 0, 1))


def _binned(p: Floats) -> tuple[Floats, Floats]:
    """Values and how often each occurs. Many are gathered by their log odds, in bins so narrow that no count moves."""
    if len(p) <= _BINS:
        return p, np.ones(len(p))
    place = np.clip((_log_odds(p) + 16) / 32 * _BINS, 0, _BINS - 1).astype(np.int64)
    counts = np.bincount(place, minlength=_BINS)
    filled = counts > 0
    means = np.bincount(place, p, _BINS)[filled] / counts[filled]
    return np.clip(means, 0, 1), counts[filled].astype(np.float64)


def _log_odds(p: Floats) -> Floats:
    clipped = np.clip(p, _SAFE, 1 - _SAFE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _normal(p: Floats, counts: Floats, variance: float) -> _Law:
    """The normal law with a term for skewness (Volkova 1996), read at half counts."""
    mean, sigma = float(counts @ p), float(np.sqrt(variance))
    skewness = float(counts @ (p * (1 - p) * (1 - 2 * p))) / sigma**3
    first = max(0, int(mean - 8 * sigma))
    x = (np.arange(first, int(mean + 8 * sigma) + 2) + 0.5 - mean) / sigma
    phi = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    cumulative = np.array([0.5 + 0.5 * erf(v) for v in (x / np.sqrt(2)).tolist()]) + skewness * (1 - x * x) * phi / 6
    return _Law(first, np.maximum.accumulate(np.clip(cumulative, 0, 1)))


def _quantile(laws: Sequence[_Law], q: float) -> float:
    """The smallest count whose mixed cumulative probability reaches q, by bisection."""
    low = min(law.first for law in laws)
    high = max(law.first + len(law.cumulative) for law in laws)
    while low < high:
        middle = (low + high) // 2
        if sum(law.at(middle) for law in laws) / len(laws) >= q:
            high = middle
        else:
            low = middle + 1
    return float(low)
