"""Tiles gathered into H3 cells."""

import h3
import numpy as np
import pytest

from atalaya_dashboard.cells import FEW_TILES, cells_of, suggested_resolution

LON, LAT = -72.33, 18.54


def around(n: int, step: float = 0.00001) -> np.ndarray:
    """Centres so near to each other that one cell holds them."""
    lat, lon = h3.cell_to_latlng(h3.latlng_to_cell(LAT, LON, 9))
    return np.array([[lon + i * step, lat] for i in range(n)])


def test_a_cell_is_the_mean_of_its_assessed_tiles() -> None:
    probability = np.array([0.9, 0.7, 0.2, 0.0, 0.2, np.nan])
    cells = cells_of(around(6), probability, probability > 0.5, 9)
    assert len(cells.ids) == 1
    assert cells.share[0] == pytest.approx(0.4)
    assert (cells.assessed[0], cells.not_assessed[0], cells.damaged[0]) == (5, 1, 2)
    assert cells.enough[0]


def test_tiles_that_were_not_assessed_do_not_make_a_cell_look_safe() -> None:
    probability = np.full(8, np.nan)
    cells = cells_of(around(8), probability, probability > 0.5, 9)
    assert np.isnan(cells.share[0])
    assert not cells.enough[0]
    assert not cells.few[0]


@pytest.mark.parametrize(("n", "few"), [(FEW_TILES - 1, True), (FEW_TILES, False)])
def test_a_cell_with_fewer_than_five_tiles_is_told_apart(n: int, few: bool) -> None:
    cells = cells_of(around(n), np.full(n, 0.9), np.full(n, True), 9)
    assert bool(cells.few[0]) is few
    assert bool(cells.enough[0]) is not few


def test_every_tile_is_in_the_cell_that_holds_its_centre() -> None:
    random = np.random.default_rng(0)
    center = np.array([LON, LAT]) + random.uniform(-0.02, 0.02, (500, 2))
    cells = cells_of(center, random.random(500), np.zeros(500), 9)
    assert cells.assessed.sum() == 500
    for cell in cells.ids[:10]:
        for tile in cells.tiles_of(cell):
            assert h3.latlng_to_cell(center[tile, 1], center[tile, 0], 9) == cell
    assert len(cells.tiles_of("8928308280fffff")) == 0


@pytest.mark.parametrize(
    ("tile_m", "resolution"), [(64, 9), (32, 10), (10, 11), (300, 8)], ids=["usual", "fine", "finest", "coarse"]
)
def test_the_map_opens_with_cells_that_hold_enough_tiles(tile_m: float, resolution: int) -> None:
    assert suggested_resolution(3600, 3600 * tile_m**2) == resolution


def test_a_large_scene_opens_with_cells_that_can_be_made_out() -> None:
    assert suggested_resolution(250_000, 250_000 * 64**2) == 8


def test_without_tiles_the_default_resolution_is_suggested() -> None:
    assert suggested_resolution(0, 0.0) == 9
