"""Where an analyst is told to look first."""

from pathlib import Path

import numpy as np
import pytest

from atalaya_dashboard.cells import Cells
from atalaya_dashboard.ranking import SHOWN, most_damaged_first, worst_cells, worst_tiles
from atalaya_serving.store import Store, TileTable
from builders_dashboard import a_town, an_assessed_town


def some_cells(share: list[float], assessed: list[int]) -> Cells:
    counts = np.array(assessed)
    none = np.zeros(len(share), np.int64)
    names = tuple("abcdefgh"[: len(share)])
    return Cells(9, names, counts, none, none, np.array(share), none)


@pytest.fixture
def tiles(tmp_path: Path) -> TileTable:
    assessment = an_assessed_town(tmp_path, a_town(20, 20))
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        return store.tiles(assessment.id)


def test_the_worst_cell_comes_first_and_one_with_few_tiles_not_at_all() -> None:
    cells = some_cells([0.2, 0.9, 0.5, np.nan, 0.6], [20, 4, 20, 0, 20])
    assert worst_cells(cells) == ("e", "c", "a")


def test_of_equal_cells_the_one_with_more_tiles_comes_first() -> None:
    assert worst_cells(some_cells([0.5, 0.5], [6, 19])) == ("b", "a")


def test_a_cell_that_does_not_stand_out_is_not_named() -> None:
    assert worst_cells(some_cells([0.03, 0.09], [20, 20])) == ()


def test_no_more_than_a_glance_takes_in() -> None:
    assert len(worst_cells(some_cells([0.5] * 8, [20] * 8))) == SHOWN


def test_the_worst_tiles_are_above_the_threshold_and_ordered(tiles: TileTable) -> None:
    worst = worst_tiles(tiles)
    assert len(worst) == SHOWN
    found = tiles.probability[list(worst)]
    assert (np.diff(found) <= 0).all()
    assert found[0] == np.nanmax(tiles.probability)
    assert (tiles.state[list(worst)] == 2).all()


def test_tiles_that_were_not_assessed_come_last(tiles: TileTable) -> None:
    ordered = most_damaged_first(tiles, np.arange(len(tiles)))
    missing = np.isnan(tiles.probability[ordered])
    assert missing.any()
    assert not missing[: (~missing).sum()].any()
