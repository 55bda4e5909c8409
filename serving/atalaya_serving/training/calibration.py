"""From a network's logit to an honest probability: Platt scaling on out-of-fold logits, and how uncertain that is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def fit_platt(logits: Floats, labels: NDArray[np.integer], prior_weight: float = 1.0) -> Platt:
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
    logits: Floats, labels: NDArray[np.integer], *, draws: int = 200, seed: int = 0
) -> tuple[list[float], list[float]]:
    """Slopes and intercepts fitted to `draws` resamples of calibrated logits: one plausible truth each."""
    random = np.random.default_rng(seed)
    picks = random.integers(0, len(labels), (draws, len(labels)))
    fits = [fit_platt(logits[pick], labels[pick]) for pick in picks]
    return [round(f.slope, 4) for f in fits], [round(f.intercept, 4) for f in fits]
