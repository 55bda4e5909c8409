"""Platt scaling: it recovers a known truth, stays finite, and never judges a tile by a calibration that saw it."""

import numpy as np
import pytest

from atalaya_serving.training.calibration import (
    BOOTSTRAP_DRAWS,
    Platt,
    bootstrap_platt,
    cross_fitted,
    fit_platt,
    logit,
    sigmoid,
)


def made_up(count: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, count)
    return logits, (random.random(count) < sigmoid(slope * logits + intercept)).astype(np.uint8)


def test_platt_recovers_the_truth_that_made_the_labels() -> None:
    found = fit_platt(*made_up(20_000, 0.6, -0.4))
    assert found.slope == pytest.approx(0.6, abs=0.05)
    assert found.intercept == pytest.approx(-0.4, abs=0.08)


def test_overconfident_logits_get_a_slope_below_one() -> None:
    logits, labels = made_up(2_000, 1.0, 0.0)
    assert fit_platt(3 * logits, labels).slope < 0.5


def test_perfectly_separated_tiles_give_a_finite_slope() -> None:
    found = fit_platt(np.array([-5.0, -4.0, 4.0, 5.0]), np.array([0, 0, 1, 1]))
    assert 0.5 < found.slope < 5


def test_sigmoid_does_not_overflow_and_logit_undoes_it() -> None:
    x = np.array([-800.0, -3.0, 0.0, 3.0, 800.0])
    assert np.isfinite(sigmoid(x)).all()
    assert logit(sigmoid(x))[1:4] == pytest.approx(x[1:4])
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_a_tile_is_never_calibrated_with_its_own_fold() -> None:
    logits, labels = made_up(60, 1.0, 0.0)
    judged = (np.arange(60) % 3)[None]
    before = cross_fitted(logits[None], labels, judged)
    flipped = np.where(judged[0] == 0, 1 - labels, labels)
    after = cross_fitted(logits[None], flipped, judged)
    assert after[judged == 0] == pytest.approx(before[judged == 0])
    assert after[judged == 1] != pytest.approx(before[judged == 1])


def test_the_bootstrap_surrounds_the_identity_for_calibrated_logits() -> None:
    logits, labels = made_up(400, 1.0, 0.0)
    slopes, intercepts = bootstrap_platt(logits[None], labels, np.arange(400))
    assert len(slopes) == len(intercepts) == BOOTSTRAP_DRAWS
    assert min(slopes) < 1 < max(slopes)
    assert min(intercepts) < 0 < max(intercepts)


def test_touching_tiles_are_resampled_together_and_widen_the_bootstrap() -> None:
    logits, labels = made_up(40, 1.0, 0.0)
    tenfold_logits, tenfold_labels = np.repeat(logits, 10), np.repeat(labels, 10)
    alone = bootstrap_platt(tenfold_logits[None], tenfold_labels, np.arange(400))
    grouped = bootstrap_platt(tenfold_logits[None], tenfold_labels, np.repeat(np.arange(40), 10))
    assert np.std(grouped[1]) > 2 * np.std(alone[1])


def test_a_calibration_is_applied_to_logits() -> None:
    assert Platt(2.0, -1.0)(np.array([0.5])) == pytest.approx([0.5])
