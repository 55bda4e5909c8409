"""The honest count: against the law worked out tile by tile."""

import numpy as np
import pytest

from atalaya_serving.scoring.counts import count_damaged


def poisson_binomial(p: np.ndarray) -> np.ndarray:
    """The law by brute force: one convolution a tile."""
    pmf = np.array([1.0])
    for each in p:
        pmf = np.convolve(pmf, [1 - each, each])
    return pmf


def quantile(pmf: np.ndarray, q: float) -> int:
    return int(np.searchsorted(np.cumsum(pmf), q))


def recalibrated(p: np.ndarray, a: float, b: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(a * np.log(p / (1 - p)) + b)))


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [
        pytest.param(1, 0.3, 0.31, id="one tile"),
        pytest.param(12, 0.0, 1.0, id="a dozen"),
        pytest.param(180, 0.0, 1.0, id="the composite's size"),
        pytest.param(3000, 0.0, 0.001, id="many sure tiles"),
        pytest.param(2500, 0.0, 1.0, id="just above the exact law's reach"),
        pytest.param(4000, 0.01, 0.2, id="skewed and large"),
    ],
)
def test_the_interval_is_that_of_the_poisson_binomial_law(n: int, low: float, high: float) -> None:
    p = np.random.default_rng(n).uniform(low, high, n)
    count = count_damaged(p, None)
    pmf = poisson_binomial(p)
    assert count.n == n
    assert count.expected == pytest.approx(p.sum())
    assert count.low == pytest.approx(min(quantile(pmf, 0.05), p.sum()))
    assert count.high == pytest.approx(max(quantile(pmf, 0.95), p.sum()))


def test_the_calibrations_doubt_is_mixed_in() -> None:
    p = np.random.default_rng(3).uniform(0.02, 0.9, 150)
    slopes, intercepts = [0.8, 1.0, 1.3], [-0.6, 0.0, 0.5]
    mixed = np.mean([poisson_binomial(recalibrated(p, a, b)) for a, b in zip(slopes, intercepts, strict=True)], axis=0)
    count = count_damaged(p, (slopes, intercepts))
    assert (count.low, count.high) == (quantile(mixed, 0.05), quantile(mixed, 0.95))
    alone = count_damaged(p, None)
    assert count.high - count.low > alone.high - alone.low


def test_tiles_that_were_not_assessed_are_left_out() -> None:
    assert count_damaged([0.5, np.nan, 0.25], None) == count_damaged([0.5, 0.25], None)


def test_no_tiles_give_no_count() -> None:
    count = count_damaged([np.nan], ([1.0], [0.0]))
    assert (count.expected, count.low, count.high, count.n) == (0, 0, 0, 0)


def test_sure_tiles_have_no_interval() -> None:
    count = count_damaged([1.0] * 40 + [0.0] * 60, None)
    assert (count.low, count.expected, count.high) == (40, 40, 40)


def test_a_higher_level_gives_a_wider_interval() -> None:
    p = np.full(500, 0.3)
    narrow, wide = count_damaged(p, None, level=0.5), count_damaged(p, None, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_hundred_thousand_tiles_with_two_hundred_pairs_are_quick() -> None:
    import time

    p = np.random.default_rng(0).beta(0.3, 1, 100_000)
    pairs = np.random.default_rng(1).normal([1, 0], 0.1, (200, 2))
    start = time.process_time()
    count = count_damaged(p, (list(pairs[:, 0]), list(pairs[:, 1])))
    assert count.low < count.expected < count.high
    assert time.process_time() - start < 10
