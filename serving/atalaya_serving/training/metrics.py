"""How good a probability is: accuracy, ranking, Brier score, calibration, reliability, each with its interval.

Intervals are percentiles of a bootstrap over tiles, so they tell what another draw of as many tiles could show. They
do not cover what other places or other events would show.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training.calibration import fit_platt, logit

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
DRAWS = 1000


@dataclass(frozen=True)
class Figure:
    """A value with its 95% interval; the interval is absent (None) where no resample could give the value."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Bin:
    """Tiles whose probability lies in one range: how many, the mean probability, the share really positive."""

    low: float
    high: float
    count: int
    mean_probability: float
    observed_share: float
    observed_low: float
    observed_high: float


@dataclass(frozen=True)
class Scores:
    """All figures of a set of probabilities."""

    count: int
    positives: int
    threshold: float
    accuracy: Figure
    auroc: Figure
    brier: Figure
    log_loss: Figure
    calibration_slope: Figure
    calibration_intercept: Figure
    reliability: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, rounded, for JSON and manifests."""
        return dict(_rounded(asdict(self)))


def score(probabilities: Floats, labels: Labels, *, threshold: float = 0.5, seed: int = 0) -> Scores:
    """Judge `probabilities` [n] or, from repeated cross-validation, [repeats, n] against `labels` [n].

    With repeats each figure is the mean over them; the bootstrap draws tiles, never single predictions.
    """
    table = np.atleast_2d(np.asarray(probabilities, np.float64))
    random = np.random.default_rng(seed)
    names = ("accuracy", "auroc", "brier", "log_loss", "calibration_slope", "calibration_intercept")
    whole = _mean_figures(table, labels, threshold)
    drawn = []
    for pick in random.integers(0, len(labels), (DRAWS, len(labels))):
        if 0 < labels[pick].sum() < len(labels):
            drawn.append(_mean_figures(table[:, pick], labels[pick], threshold))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0) if drawn else (np.full(6, np.nan),) * 2
    figures = {
        name: Figure(float(value), *(None if np.isnan(end) else float(end) for end in ends))
        for name, value, *ends in zip(names, whole, low, high, strict=True)
    }
    return Scores(
        count=len(labels),
        positives=int(labels.sum()),
        threshold=threshold,
        reliability=reliability(table, labels),
        **figures,
    )


def _mean_figures(table: Floats, labels: Labels, threshold: float) -> Floats:
    return np.asarray(np.mean([_figures(row, labels, threshold) for row in table], axis=0))


def _figures(p: Floats, labels: Labels, threshold: float) -> list[float]:
    safe = np.clip(p, 1e-7, 1 - 1e-7)
    line = fit_platt(logit(p), labels, prior_weight=0.01)
    return [
        float(((p >= threshold) == labels).mean()),
        auroc(p, labels),
        float(((p - labels) ** 2).mean()),
        float(-np.where(labels == 1, np.log(safe), np.log(1 - safe)).mean()),
        line.slope,
        line.intercept,
    ]


def auroc(p: Floats, labels: Labels) -> float:
    """The chance that a positive tile gets a higher probability than a negative one; ties count half."""
    positives, negatives = p[labels == 1], p[labels == 0]
    if not len(positives) or not len(negatives):
        return float("nan")
    difference = positives[:, None] - negatives[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def reliability(table: Floats, labels: Labels, bins: int = 5) -> tuple[Bin, ...]:
    """Equal ranges of probability with the share that was really positive and its 95% Wilson interval.

    With repeats, counts are tiles per repeat, so the interval is not narrowed by predicting a tile twice.
    """
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.digitize(table, edges) - 1, 0, bins - 1)
    truth = np.broadcast_to(labels, table.shape)
    found = []
    for index in range(bins):
        inside = where == index
        if inside.any():
            count = inside.sum() / len(table)
            share = float(truth[inside].mean())
            low, high = _wilson(share, count)
            found.append(
                Bin(edges[index], edges[index + 1], round(count), float(table[inside].mean()), share, low, high)
            )
    return tuple(found)


def _wilson(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(float(value), 4) if isinstance(value, float) else value
