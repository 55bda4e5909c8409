"""The counters of a version: few, whatever its callers send."""

from atalaya_serving.stats import Execution, VersionStats, batch_size


def test_batch_sizes_are_counted_apart_up_to_a_bound_and_then_by_powers_of_two() -> None:
    stats = VersionStats()
    for rows in range(100_000):
        stats.record("grpc", "OK", 0.001, Execution(rows, 0.0, 0.001))
    batches = stats.snapshot().batches
    assert len(batches) < 160
    assert batches[7] == (1, 0.001)
    assert batches[256][0] == 128
    assert sum(count for count, _ in batches.values()) == 100_000
    assert batch_size(2**40 + 1) == 2**41
