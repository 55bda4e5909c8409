"""Everything is measured side by side, in every round, and within a bound that is known before."""

import pytest

from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.plans import LoadPlan, at_most_seconds, cells, interleaved
from atalaya_serving.benching.records import Cell

SERVERS = {"ours": ("v2-grpc", "tfs-rest"), "theirs": ("v2-grpc",)}


def test_every_combination_that_a_server_speaks_is_measured_once_a_round() -> None:
    every = cells(LoadPlan(concurrency=(1, 8), batches=(1, 16)), SERVERS)
    assert len(every) == len(set(every)) == 2 * 2 * 3
    assert Cell("theirs", "tfs-rest", 1, 1) not in every
    order = list(interleaved(every, 3))
    assert all(sorted(map(repr, own)) == sorted(map(repr, every)) for own in _rounds(order, 3))


def test_servers_take_turns_instead_of_one_after_the_other() -> None:
    every = cells(LoadPlan(concurrency=(1, 8), batches=(1,)), SERVERS)
    assert [cell.server for cell in every] == ["ours", "ours", "theirs"] * 2


def test_no_cell_is_the_first_of_every_round() -> None:
    order = list(interleaved(cells(LoadPlan(), SERVERS), 3))
    assert len({own[0] for own in _rounds(order, 3)}) == 3


def _rounds(order: list[tuple[int, Cell]], count: int) -> list[list[Cell]]:
    return [[cell for number, cell in order if number == one] for one in range(count)]


def test_a_plan_tells_how_long_it_takes_at_most() -> None:
    assert at_most_seconds(LoadPlan(rounds=3, seconds=2), 10) == 60


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(lambda: LoadPlan(concurrency=()), "--concurrency names nothing", id="nothing"),
        pytest.param(lambda: LoadPlan(batches=(1, 1)), "--batch names 1 twice", id="twice"),
        pytest.param(lambda: at_most_seconds(LoadPlan(seconds=3600), 100), "300 h, past 12 h", id="a week"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make, told: str) -> None:
    with pytest.raises(InvalidPlan, match=told):
        make()
