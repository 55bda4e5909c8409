"""From a network's logit to an honest probability: Platt scaling on out-of-fold logits, and how uncertain that is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BOOTSTRAP_DRAWS = 200


@dataclass(frozen=True)
class Platt:
    """probability = sigmoid(slope × logit + intercept)."""

    slope: float
    intercept: float

    def __call__(self, logits: Floats) -> Floats:
        """Calibrated probabilities of `logits`."""
        return sigmoid(self.slope * np.asarray(logits, np.float64) + self.intercept)


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64))))


def logit(probabilities: Floats) -> Floats:
    """The inverse of `sigmoid`, kept finite."""
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped / (1 - clipped)))


def fit_platt(logits: Floats, labels: NDArray[np.integer[Any]], prior_weight: float = 1.0) -> Platt:
    """The slope and intercept of greatest posterior, by Newton's method.

    The prior holds log(slope) near 0 and the intercept near 0 (both with standard deviation 1/√prior_weight), so that
    a perfectly separated sample does not give an infinite slope.
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    theta = np.zeros(2)  # log slope, intercept
    for _ in range(100):
        slope = np.exp(theta[0])
        p = sigmoid(slope * x + theta[1])
        columns = np.stack([slope * x, np.ones_like(x)])
        gradient = columns @ (p - y) + prior_weight * theta
        hessian = (columns * (p * (1 - p))) @ columns.T + prior_weight * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    return Platt(float(np.exp(theta[0])), float(theta[1]))


def bootstrap_platt(
    logits: Floats, labels: NDArray[np.integer[Any]], groups: NDArray[np.int64], seed: int = 0
) -> tuple[list[float], list[float]]:
    """200 plausible truths about calibrated `logits` [repeats, n]: slopes and intercepts fitted to resamples.

    Each draw takes one repeat and resamples groups of touching tiles, since neighbours do not err independently.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    slopes, intercepts = [], []
    for _ in range(BOOTSTRAP_DRAWS):
        row = logits[random.integers(len(logits))]
        pick = np.concatenate([members[index] for index in random.integers(0, len(members), len(members))])
        fitted = fit_platt(row[pick], labels[pick])
        slopes.append(round(fitted.slope, 4))
        intercepts.append(round(fitted.intercept, 4))
    return slopes, intercepts


def cross_fitted(logits: Floats, labels: NDArray[np.integer[Any]], judged: NDArray[np.int64]) -> Floats:
    """Probabilities [repeats, n] of out-of-fold `logits`, each calibrated without its own fold.

    `judged` [repeats, n] numbers the fold in which each tile was judged. So a reported figure never rests on a
    calibration that saw the tile.
    """
    found = np.empty_like(logits)
    for repeat, row in enumerate(logits):
        for fold in np.unique(judged[repeat]):
            inside = judged[repeat] == fold
            found[repeat, inside] = fit_platt(row[~inside], labels[~inside])(row[inside])
    return found
