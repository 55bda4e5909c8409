"""Areas of interest and masks: polygons and rasters in any coordinate system; a mask is never taken for safe."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine

from rasters import TILE, UTM18, brightness, steps, write_scene


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """In the scene's tiles: columns and rows from the upper left."""
    side = 64.0
    return shapely.box(783000 + left * side, 2052000 - bottom * side, 783000 + right * side, 2052000 - top * side)


def polygons(path: Path, *shapes: shapely.Polygon, crs: int = 32618) -> Path:
    frame = geopandas.GeoDataFrame(geometry=list(shapes), crs=32618).to_crs(crs)
    frame.to_file(path)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "s.tif", steps())


@pytest.mark.parametrize(
    ("name", "crs"),
    [("a.geojson", 4326), ("a.gpkg", 32618), ("a.gpkg", 3857), ("a.shp", 32619)],
)
def test_only_the_tiles_in_the_area_are_assessed(bench, scene: Path, tmp_path: Path, name: str, crs: int) -> None:
    area = polygons(tmp_path / name, box(1, 0, 3, 2), box(4, 3, 5, 4), crs=crs)
    table = bench.tiles(scene, area=area)
    inside = np.isin(table.row * 5 + table.col, [1, 2, 6, 7, 19])
    assert (table.state[inside] > 0).all()
    assert set(table.reason[~inside]) == {"outside the area"}
    assert len(table) == 20


def test_a_tile_half_inside_the_area_counts_and_is_shown_whole(bench, scene: Path, tmp_path: Path) -> None:
    area = polygons(tmp_path / "a.gpkg", box(0, 0, 1.6, 1), box(3.6, 0, 4, 1))
    table = bench.tiles(scene, area=area)
    assert table.col[table.state > 0].tolist() == [0, 1]
    np.testing.assert_allclose(table.probability[:2] * 255, [brightness(0, 0), brightness(0, 1)], atol=0.01)


@pytest.mark.parametrize(
    ("name", "crs"),
    [("a.geojson", 4326), ("a.gpkg", 32618), ("a.shp", 32619)],
)
def test_what_is_masked_is_not_assessed(bench, scene: Path, tmp_path: Path, name: str, crs: int) -> None:
    table = bench.tiles(scene, mask=polygons(tmp_path / name, box(1, 1, 3, 2), crs=crs))
    masked = (table.row == 1) & np.isin(table.col, [1, 2])
    assert set(table.reason[masked]) == {"masked"}
    assert (table.state[~masked] > 0).all()


def test_masked_pixels_are_never_shown_to_the_model(bench, tmp_path: Path) -> None:
    pixels = steps()
    pixels[:TILE, :40] = 255
    table = bench.tiles(
        write_scene(tmp_path / "s.tif", pixels), mask=polygons(tmp_path / "m.gpkg", box(0, 0, 40 / TILE, 1))
    )
    assert table.probability[0] * 255 == pytest.approx(brightness(0, 0), abs=0.01)


def test_polygons_that_overlap_or_cross_themselves_are_taken_as_they_cover(bench, scene: Path, tmp_path: Path) -> None:
    bow = shapely.Polygon([(783000, 2052000), (783064, 2051936), (783064, 2052000), (783000, 2051936)])
    table = bench.tiles(scene, mask=polygons(tmp_path / "m.gpkg", bow, box(1, 0, 2, 1), box(1, 0, 2, 1)))
    assert table.reason[:2].tolist() == ["", "masked"]


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_raster_masks_where_it_is_neither_zero_nor_nodata(bench, scene: Path, tmp_path: Path, kind: str) -> None:
    """Coarser than the scene: 64 m pixels, one a tile."""
    values = np.zeros((4, 5), kind)
    values[0, 1], values[2, 3], values[3, 0] = 7, 1, 99
    place = {"transform": UTM18 @ Affine.scale(TILE), "tiled": None, "blockxsize": None, "blockysize": None}
    table = bench.tiles(scene, mask=write_scene(tmp_path / "m.tif", values, nodata=99, **place))
    assert np.flatnonzero(table.reason == "masked").tolist() == [1, 13]


def test_a_raster_can_be_the_area(bench, scene: Path, tmp_path: Path) -> None:
    values = np.ones((2, 2), np.uint8)
    area = write_scene(
        tmp_path / "m.tif", values, transform=UTM18 @ Affine.scale(TILE), tiled=None, blockxsize=None, blockysize=None
    )
    table = bench.tiles(scene, area=area)
    assert [(row, col) for row, col in zip(table.row, table.col, strict=True) if table.state[row * 5 + col]] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_reasons_come_in_their_order(bench, tmp_path: Path) -> None:
    """Off the area is told before no data, and no data before a mask."""
    pixels = steps()
    pixels[:TILE, : 3 * TILE] = 0
    scene = write_scene(tmp_path / "s.tif", pixels, nodata=0)
    result = bench.assess(
        scene,
        area=polygons(tmp_path / "a.gpkg", box(1, 0, 5, 4)),
        mask=polygons(tmp_path / "m.gpkg", box(2, 0, 4, 1)),
    )
    assert bench.store.tiles(result.assessment.id).reason[:5].tolist() == [
        "outside the area",
        "nodata",
        "nodata",
        "masked",
        "",
    ]
    assert result.not_assessed == {"outside the area": 4, "nodata": 2, "masked": 1}
    assert json.loads(json.dumps(result.assessment.parameters))["area"].startswith("sha256:")
