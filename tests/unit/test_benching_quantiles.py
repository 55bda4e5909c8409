"""A quantile is told only where there are enough samples for it."""

import pytest

from atalaya_serving.benching.quantiles import NO_LATENCY, latency, quantile


def test_quantiles_are_latencies_that_occurred() -> None:
    told = latency([number / 1000 for number in range(200, 0, -1)])
    assert (told.count, told.p50_ms, told.p95_ms, told.p99_ms, told.max_ms) == (200, 100, 190, 198, 200)
    assert told.mean_ms == pytest.approx(100.5)


@pytest.mark.parametrize(
    ("count", "known"),
    [
        pytest.param(1, (False, False, False), id="one call tells its maximum and no quantile"),
        pytest.param(2, (True, False, False), id="two tell the median"),
        pytest.param(20, (True, True, False), id="twenty tell p95"),
        pytest.param(99, (True, True, False), id="99 do not tell p99"),
        pytest.param(100, (True, True, True), id="100 tell p99"),
    ],
)
def test_few_samples_tell_no_tail(count: int, known: tuple[bool, ...]) -> None:
    told = latency([0.001] * count)
    assert tuple(value is not None for value in (told.p50_ms, told.p95_ms, told.p99_ms)) == known
    assert told.max_ms == 1


def test_p99_is_not_the_maximum_of_a_hundred() -> None:
    ordered = [float(number) for number in range(100)]
    assert quantile(ordered, 99) == 98


def test_nothing_measured_is_no_latency() -> None:
    assert latency([]) == NO_LATENCY
