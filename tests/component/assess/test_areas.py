"""Areas of interest and masks: polygons and rasters in any coordinate system; a mask is never taken for safe."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.warp import reproject

from atalaya_serving.scoring.errors import AreaMissesScene, AreaUnreadable
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


def turned(values: np.ndarray) -> tuple[np.ndarray, dict]:
    """The same ground in a raster that is turned by 30 degrees, of 2 m pixels."""
    return warped(values, "EPSG:32618", Affine.translation(782800, 2051950) @ Affine.rotation(30) @ Affine.scale(2, -2))


def in_degrees(values: np.ndarray) -> tuple[np.ndarray, dict]:
    return warped(values, "EPSG:4326", Affine(2e-5, 0, -72.3205, 0, -2e-5, 18.5405))


def warped(values: np.ndarray, crs: str, transform: Affine) -> tuple[np.ndarray, dict]:
    out = np.zeros((400, 400), np.uint8)
    source = UTM18 @ Affine.scale(TILE)
    reproject(values, out, src_transform=source, src_crs="EPSG:32618", dst_transform=transform, dst_crs=crs)
    return out, {"crs": crs, "transform": transform}


@pytest.mark.parametrize("place", [turned, in_degrees])
def test_a_raster_in_another_system_or_turned_masks_the_same_ground(bench, scene, tmp_path: Path, place) -> None:
    values = np.zeros((4, 5), np.uint8)
    values[1, 1:4] = values[2, 4] = 1
    pixels, where = place(values)
    table = bench.tiles(scene, mask=raster(tmp_path / "m.tif", pixels, **where))
    assert np.flatnonzero(table.reason == "masked").tolist() == [6, 7, 8, 14]


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


FAR = shapely.box(783000, 2062000, 783500, 2062500)


def raster(path: Path, values: np.ndarray, **changes) -> Path:
    place = {"transform": UTM18 @ Affine.scale(TILE), "tiled": None, "blockxsize": None, "blockysize": None}
    return write_scene(path, values, **place | changes)


@pytest.mark.parametrize("crs", [4326, 32618, 32645])
def test_an_area_that_misses_the_scene_is_refused_with_both_places(bench, scene, tmp_path: Path, crs: int) -> None:
    area = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame(geometry=[FAR], crs=32618).to_crs(4326).to_crs(crs if crs != 32645 else 4326).to_file(area)
    if crs == 32645:
        geopandas.GeoDataFrame(geometry=[shapely.box(500000, 3e6, 501000, 3.1e6)], crs=crs).to_file(area)
    with pytest.raises(AreaMissesScene) as caught:
        bench.assess(scene, area=area)
    told = str(caught.value)
    assert told.startswith(f"{area} does not touch {scene}: it lies at longitude ")
    assert ", the scene at longitude -72.319 to -72.316, latitude 18.537 to 18.54; give the one that belongs" in told
    assert bench.store.assessments() == []


def test_an_area_raster_that_misses_the_scene_is_refused(bench, scene, tmp_path: Path) -> None:
    area = raster(tmp_path / "a.tif", np.ones((4, 5), np.uint8), transform=Affine(64, 0, 793000, 0, -64, 2052000))
    with pytest.raises(AreaMissesScene, match="does not touch"):
        bench.assess(scene, area=area)


def test_an_area_with_its_axes_swapped_is_told_as_such(bench, scene, tmp_path: Path) -> None:
    area = polygons(tmp_path / "a.gpkg", box(1, 0, 3, 2), crs=4326)
    frame = geopandas.read_file(area)
    swapped = frame.set_geometry(shapely.transform(frame.geometry, lambda xy: xy[:, ::-1])).set_crs(4326)
    swapped.to_file(tmp_path / "swapped.gpkg")
    with pytest.raises(AreaMissesScene, match=r"its latitude and longitude look swapped\.$"):
        bench.assess(scene, area=tmp_path / "swapped.gpkg")


def test_metres_in_a_geojson_are_told_as_such(bench, scene, tmp_path: Path) -> None:
    area = tmp_path / "a.geojson"
    area.write_text(json.dumps(shapely.geometry.mapping(box(1, 0, 3, 2))))
    with pytest.raises(AreaUnreadable, match=r"a.geojson says WGS 84 and has coordinates that are no degrees \(783,"):
        bench.assess(scene, area=area)


def test_an_area_smaller_than_a_tile_is_refused_before_the_work(bench, scene, tmp_path: Path) -> None:
    area = polygons(tmp_path / "a.gpkg", box(1.1, 1.1, 1.6, 1.6))
    with pytest.raises(
        AreaMissesScene, match=r"no tile of .* lies 50% inside .*, which is too small or too narrow for"
    ):
        bench.assess(scene, area=area)
    assert bench.store.assessments() == []


def test_an_area_that_holds_no_valid_pixel_ends_in_an_error(bench, tmp_path: Path) -> None:
    pixels = steps()
    pixels[: 2 * TILE] = 0
    scene = write_scene(tmp_path / "s.tif", pixels, nodata=0)
    with pytest.raises(
        AreaMissesScene, match=r"no tile of .* in .* could be assessed \(16 outside the area, 4 nodata\)"
    ):
        bench.assess(scene, area=polygons(tmp_path / "a.gpkg", box(1, 0, 3, 2)))


def test_an_area_that_reaches_beyond_the_scene_is_told(bench, scene, tmp_path: Path) -> None:
    result = bench.assess(scene, area=polygons(tmp_path / "a.gpkg", box(-2, 0, 2, 4), crs=4326))
    (warning,) = result.warnings
    assert warning == f"50% of {tmp_path / 'a.gpkg'} lies outside {scene}: nothing is known there"
    assert result.count.n == 8


def test_a_mask_that_misses_the_scene_is_told(bench, scene, tmp_path: Path) -> None:
    result = bench.assess(scene, mask=polygons(tmp_path / "m.gpkg", FAR))
    (warning,) = result.warnings
    assert f"{tmp_path / 'm.gpkg'} masks nothing of {scene}: it lies at longitude -72.3" in warning
    assert result.count.n == 20


def test_a_mask_raster_that_covers_a_part_is_told(bench, scene, tmp_path: Path) -> None:
    result = bench.assess(scene, mask=raster(tmp_path / "m.tif", np.zeros((4, 2), np.uint8)))
    assert result.warnings == (f"{tmp_path / 'm.tif'} covers 40% of {scene}: beyond it nothing is masked",)
    assert bench.assess(scene, mask=raster(tmp_path / "n.tif", np.zeros((4, 5), np.uint8))).warnings == ()


def test_polygons_that_cross_themselves_are_mended_with_a_warning(bench, scene, tmp_path: Path) -> None:
    corners = [(783000, 2052000), (783128, 2051872), (783128, 2052000), (783000, 2051872)]
    area = polygons(tmp_path / "a.gpkg", shapely.Polygon(corners), box(3, 0, 4, 1))
    result = bench.assess(scene, area=area)
    assert result.warnings == (
        f"{area}: 1 of its 2 polygon(s) cross themselves; what they enclose is taken, which may not be what was meant",
    )


def test_polygons_that_enclose_nothing_are_refused(bench, scene, tmp_path: Path) -> None:
    area = polygons(tmp_path / "a.gpkg", shapely.Polygon([(783000, 2052000), (783064, 2051936), (783000, 2052000)]))
    with pytest.raises(AreaUnreadable, match="has polygons that enclose nothing; draw them again"):
        bench.assess(scene, area=area)


def test_a_layer_of_the_whole_world_can_be_the_area(bench, scene, tmp_path: Path) -> None:
    """Most of it cannot be told in the scene's coordinates at all."""
    west = shapely.MultiPolygon([shapely.box(-180, -90, -72.3178, 90), shapely.box(100, -89, 179, 89)])
    frame = geopandas.GeoDataFrame(geometry=[west, shapely.box(10, 0, 90, 80)], crs=4326)
    frame.to_file(tmp_path / "world.geojson")
    table = bench.tiles(scene, area=tmp_path / "world.geojson")
    assert set(table.col[table.state > 0]) == {0, 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.geojson",
            '{"type": "FeatureCollection",\n "features": [',
            r" \(it is no JSON from line 2, column 15\); give",
        ),
        ("a.geojson", '{"type": "Polygon", "coordinates": [[[0, 0], [1]', r" \(it is no JSON from line 1, column"),
        ("a.geojson", '{"rows": 1}', r" \(it is JSON, but no GeoJSON\); give one of these"),
        ("a.shp", "junk", r" \(its .shx and .dbf and .prj is missing beside it\); give one"),
        ("a.gpkg", "SQLite format 3", r"nor a GeoTIFF; give one of these"),
        ("a.tif", "II*\0junkjunk", r"cannot be opened as a GeoTIFF"),
    ],
)
def test_a_broken_area_file_is_told_in_our_words(bench, scene, tmp_path, name, content, message) -> None:
    area = tmp_path / name
    area.write_text(content)
    with pytest.raises(AreaUnreadable, match=message) as caught:
        bench.assess(scene, area=area)
    told = str(caught.value)
    assert told.startswith(f"{area} ")
    assert "GDAL" not in told
    assert "driver" not in told
