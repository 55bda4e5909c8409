"""The figures that judge a model, against cases whose answer is known."""

import numpy as np
import pytest

from atalaya_serving.training.calibration import sigmoid
from atalaya_serving.training.metrics import auroc, score


@pytest.mark.parametrize(
    ("p", "labels", "expected"),
    [
        pytest.param([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0, id="perfect"),
        pytest.param([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0, id="reversed"),
        pytest.param([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5, id="all tied"),
        pytest.param([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1], 0.875, id="one tie"),
    ],
)
def test_auroc_of_known_rankings(p: list[float], labels: list[int], expected: float) -> None:
    assert auroc(np.array(p), np.array(labels)) == pytest.approx(expected)


def test_auroc_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    p, labels = np.round(random.random(200), 2), random.integers(0, 2, 200)
    assert auroc(p, labels) == pytest.approx(roc_auc_score(labels, p))


def calibrated(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    p = sigmoid(random.normal(0, 2, count))
    return p, (random.random(count) < p).astype(np.uint8)


def test_calibrated_probabilities_have_slope_one_and_intercept_zero_within_their_intervals() -> None:
    scores = score(*calibrated())
    assert scores.calibration_slope.low < 1 < scores.calibration_slope.high
    assert scores.calibration_intercept.low < 0 < scores.calibration_intercept.high


def test_each_interval_holds_its_value_and_shrinks_with_more_tiles() -> None:
    few, many = score(*calibrated(60)), score(*calibrated(2000))
    for name in ("accuracy", "auroc", "brier", "log_loss", "calibration_slope"):
        figure, wider = getattr(many, name), getattr(few, name)
        assert figure.low <= figure.value <= figure.high
        assert figure.high - figure.low < wider.high - wider.low


def test_accuracy_is_counted_at_the_threshold() -> None:
    p, labels = np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 1, 1, 1])
    assert score(p, labels).accuracy.value == pytest.approx(0.75)
    assert score(p, labels, threshold=0.3).accuracy.value == pytest.approx(1.0)


def test_repeats_do_not_narrow_an_interval() -> None:
    p, labels = calibrated(100)
    once, thrice = score(p, labels), score(np.stack([p, p, p]), labels)
    assert thrice.brier.low == pytest.approx(once.brier.low)
    assert [b.count for b in thrice.reliability] == [b.count for b in once.reliability]


def test_reliability_counts_every_tile_once() -> None:
    p, labels = calibrated()
    bins = score(p, labels).reliability
    assert sum(b.count for b in bins) == len(labels)
    assert all(b.low <= b.mean_probability <= b.high for b in bins)
    assert all(b.observed_low <= b.observed_share <= b.observed_high for b in bins)


def test_scores_are_plain_values_for_json() -> None:
    import json

    assert json.loads(json.dumps(score(*calibrated(50)).as_dict()))["count"] == 50
