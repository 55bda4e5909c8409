"""Longitudes in one piece, and cells cut to the scene."""

from pathlib import Path

import h3
import numpy as np
import pytest
import shapely

import builders_dashboard
from atalaya_dashboard.cells import cells_of
from atalaya_dashboard.data import MapData, load_map
from atalaya_dashboard.placement import bounds_near, cell_rings, in_one_piece, label_point, middle_of, near, wrapped
from atalaya_serving.store import Store
from builders_dashboard import FIJI, a_town, a_truth, an_assessed_town


@pytest.fixture
def across(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MapData:
    """A scene on both sides of the antimeridian."""
    for name, value in zip(("CRS", "LEFT", "TOP"), FIJI, strict=True):
        monkeypatch.setattr(builders_dashboard, name, value)
    assessment = an_assessed_town(tmp_path, a_town(30, 30))
    a_truth(tmp_path, assessment)
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        return load_map(store, assessment.id, tmp_path / "scenes")


def test_a_scene_across_the_antimeridian_lies_in_one_piece(across: MapData) -> None:
    west, south, east, north = across.bounds
    assert 0.015 < east - west < 0.025
    assert -16.8 < south < north < -16.7
    assert west < 180 < east or west < -180 < east, "it is a scene across"
    assert -180 <= (west + east) / 2 <= 180, "a map's middle is a usual longitude"
    outline = np.array(across.outline)
    assert np.ptp(outline[:, 0]) < 0.025
    assert np.ptp(across.corners[..., 0], axis=1).max() < 0.001, "no footprint spans the globe"


def test_the_scenes_picture_and_the_truth_lie_in_the_same_piece(across: MapData) -> None:
    west, _, east, _ = across.bounds
    assert across.overview is not None
    assert across.truth is not None
    places = [*across.overview.corners, *(point for ring in across.truth.damaged for point in ring)]
    longitudes = np.array(places)[:, 0]
    assert west - 0.001 < longitudes.min() < longitudes.max() < east + 0.001


def test_the_cells_of_a_scene_across_are_real_and_hold_all_its_tiles(across: MapData) -> None:
    center = across.corners.mean(axis=1)
    center[:, 0] = wrapped(center[:, 0])
    cells = cells_of(center, across.tiles.probability, across.tiles.state == 2, 9)
    assert cells.assessed.sum() + cells.not_assessed.sum() == 900
    assert all(h3.is_valid_cell(name) for name in cells.ids)
    assert 30 < len(cells.ids) < 70
    west, _, east, _ = across.bounds
    longitudes = np.array([point for ring in cell_rings(cells.ids, across.outline) for point in ring])[:, 0]
    assert west - 1e-6 < longitudes.min() < longitudes.max() < east + 1e-6


@pytest.mark.parametrize(
    ("longitude", "middle", "expected"),
    [
        pytest.param(-179.9, 179.9, 180.1, id="east-of-the-line"),
        pytest.param(179.9, -179.9, -180.1, id="west-of-the-line"),
        pytest.param(180.2, -179.9, -179.8, id="unwrapped-already"),
        pytest.param(-72.3, -72.4, -72.3, id="elsewhere"),
    ],
)
def test_a_meridian_is_written_near_the_middle(longitude: float, middle: float, expected: float) -> None:
    assert near(longitude, middle) == pytest.approx(expected)


def test_the_usual_longitudes_come_back() -> None:
    assert wrapped(np.array([180.2, -180.1, 12.0])).tolist() == pytest.approx([-179.8, 179.9, 12.0])


@pytest.mark.parametrize("longitudes", [[179.9, -179.9, -179.8], [179.9, 180.1, 180.2], [-180.1, -179.9, -179.8]])
def test_the_middle_is_the_same_however_the_longitudes_are_written(longitudes: list[float]) -> None:
    middle = middle_of(np.array(longitudes))
    assert wrapped(middle - -179.95) == pytest.approx(0, abs=1e-9)
    together = in_one_piece(np.array([(lon, 0.0) for lon in longitudes]), middle)
    assert np.ptp(together[:, 0]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        pytest.param((1, 2, 3, 4), (1, 2, 3, 4), id="elsewhere"),
        pytest.param((179.9, -17, -179.9, -16), (-180.1, -17, -179.9, -16), id="east-written-smaller"),
        pytest.param((179.8, -17, 180.1, -16), (179.8, -17, 180.1, -16), id="unwrapped"),
        pytest.param((-180, -60, 180, 60), (-180, -60, 180, 60), id="all-round"),
    ],
)
def test_bounds_are_one_piece(bounds: tuple[float, ...], expected: tuple[float, ...]) -> None:
    west, south, east, north = bounds_near(bounds)
    assert east - west == pytest.approx((expected[2] - expected[0]) % 360 or 360)
    assert wrapped(west - expected[0]) == pytest.approx(0, abs=1e-9)
    assert (south, north) == (expected[1], expected[3])
    assert -180 <= (west + east) / 2 <= 180


def test_a_cell_is_cut_to_the_scene_and_one_inside_stays_whole() -> None:
    cell = h3.latlng_to_cell(18.5, -72.3, 9)
    lat, lon = h3.cell_to_latlng(cell)
    (whole,) = cell_rings([cell], [(lon - 1, lat - 1), (lon - 1, lat + 1), (lon + 1, lat + 1), (lon + 1, lat - 1)])
    assert len(whole) == 6
    (half,) = cell_rings([cell], [(lon, lat - 1), (lon, lat + 1), (lon + 1, lat + 1), (lon + 1, lat - 1)])
    assert min(x for x, _ in half) == pytest.approx(lon)
    assert shapely.Polygon(half).area == pytest.approx(shapely.Polygon(whole).area / 2, rel=0.01)
    assert label_point(half)[0] > lon
