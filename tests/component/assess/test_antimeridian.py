"""Scenes across 180 degrees, past it, and at the poles: every tile is assessed, and everything lies in one piece."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from atalaya_serving.scoring.outputs import Output, write_output
from atalaya_serving.scoring.pixels import tile_pixels
from rasters import write_scene

SIDE = 768
DEGREES = Affine(4.7e-6, 0, 0, 0, -4.52e-6, -17)
HALF_WORLD = 20037508.342789244


def fiji(epsg: int) -> tuple[float, float]:
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180, -17)
    return abs(x), y


def at(west: float, affine: Affine) -> Affine:
    return Affine.translation(west, 0) @ affine


def metres(side: float, x: float, y: float) -> Affine:
    return Affine(side, 0, x, 0, -side, y)


HALF_DEGREES = SIDE / 2 * DEGREES.a
ACROSS = [
    pytest.param("EPSG:4326", at(180 - HALF_DEGREES, DEGREES), id="degrees past 180"),
    pytest.param("EPSG:4326", at(-180 - HALF_DEGREES, DEGREES), id="degrees before -180"),
    pytest.param("EPSG:3857", metres(0.52, HALF_WORLD - 200, fiji(3857)[1]), id="web mercator past its edge"),
    pytest.param("EPSG:3857", metres(0.52, -HALF_WORLD - 200, fiji(3857)[1]), id="web mercator before its edge"),
    pytest.param("EPSG:32760", metres(0.5, fiji(32760)[0] - 192, fiji(32760)[1]), id="UTM, tiled in place"),
    pytest.param("EPSG:32760", metres(0.45, fiji(32760)[0] - 192, fiji(32760)[1]), id="UTM, resampled"),
    pytest.param("EPSG:3832", metres(0.52, fiji(3832)[0] - 200, fiji(3832)[1]), id="a Pacific Mercator"),
]
PAST = [
    pytest.param("EPSG:4326", at(190, DEGREES), -170.0, id="degrees from 0 to 360"),
    pytest.param("EPSG:4326", at(360 - HALF_DEGREES, DEGREES), 0.0, id="degrees past 360"),
    pytest.param("EPSG:3857", metres(0.52, HALF_WORLD + 1e6, fiji(3857)[1]), -171.0, id="web mercator"),
]


def ramp() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (60 + x * 0.1 + y * 0.12).astype(np.uint8)


def expect_the_ramp(table, crs: str, transform: Affine) -> None:
    """What the model saw at a tile is what lies there on Earth."""
    to_scene = Transformer.from_crs(4326, crs, always_xy=True)
    lon, lat = table.center.T
    x, y = to_scene.transform((lon + 180) % 360 - 180, lat)
    turn = 360.0 if crs == "EPSG:4326" else 2 * HALF_WORLD
    middle = (transform @ (SIDE / 2, SIDE / 2))[0]
    x += turn * np.round((middle - x) / turn)
    px, py = ~transform @ (x, y)
    inside = (np.abs(px - SIDE / 2) < SIDE / 2 - 80) & (np.abs(py - SIDE / 2) < SIDE / 2 - 80)
    assert inside.sum() >= 9
    assert (table.state[inside] > 0).all()
    np.testing.assert_allclose(table.probability[inside] * 255, 60 + px[inside] * 0.1 + py[inside] * 0.12 - 0.5, atol=1)


@pytest.mark.parametrize(("crs", "transform"), ACROSS)
def test_a_scene_across_the_antimeridian_keeps_its_tiles_on_both_sides(bench, tmp_path, crs, transform) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", ramp(), crs=crs, transform=transform))
    table = bench.store.tiles(result.assessment.id)
    expect_the_ramp(table, crs, transform)
    west, south, east, north = bench.store.scenes()[0].bounds
    assert 179.99 < west < 180 < east < 180.01
    assert -17.01 < south < north < -16.99
    assert np.ptp(table.corners[..., 0], axis=1).max() < 0.001
    assert table.corners[..., 0].min() == pytest.approx(west, abs=7e-4)
    assert table.corners[..., 0].max() == pytest.approx(east, abs=7e-4)
    folder = bench.scenes / result.assessment.scene_digest.removeprefix("sha256:")
    told = json.loads((folder / "overview.json").read_text())["bounds"]
    assert told == pytest.approx([west, south, east, north], abs=1e-4)


@pytest.mark.parametrize(("crs", "transform", "west"), PAST)
def test_a_scene_written_past_180_lies_where_it_is(bench, tmp_path, crs, transform, west) -> None:
    table = bench.tiles(write_scene(tmp_path / "s.tif", ramp(), crs=crs, transform=transform))
    expect_the_ramp(table, crs, transform)
    assert bench.store.scenes()[0].bounds[0] == pytest.approx(west, abs=0.05)
    assert table.center[:, 0] == pytest.approx(west, abs=0.05)


@pytest.mark.parametrize("way", ["nodata", "mask", "alpha", "nan"])
def test_invalid_pixels_stay_invalid_on_both_sides(bench, tmp_path, way: str) -> None:
    """A whole column of tiles on each side of 180 has no data."""
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, 110:290] = valid[:, 480:660] = False
    place = {"crs": "EPSG:4326", "transform": at(180 - HALF_DEGREES, DEGREES)}
    values = np.where(valid, ramp(), 0)
    options = {
        "nodata": (values, {"nodata": 0}),
        "mask": (values, {"mask": valid}),
        "alpha": (np.stack([values, valid * np.uint8(255)]), {"alpha": "YES"}),
        "nan": (np.where(valid, ramp(), np.nan).astype(np.float32), {}),
    }
    pixels, more = options[way]
    table = bench.tiles(write_scene(tmp_path / "s.tif", pixels, **more, **place), scale=(0.0, 255.0))
    column = (table.center[:, 0] - 180 + HALF_DEGREES) / DEGREES.a
    refused = (np.abs(column - 200) < 50) | (np.abs(column - 570) < 50)
    assert refused.sum() >= 6
    assert set(table.reason[refused]) == {"nodata"}
    assert (table.probability[table.state > 0] * 255 > 59).all()
    assert (table.state > 0).sum() >= 12


def test_files_in_degrees_keep_to_180_and_cut_the_tiles_across(bench, tmp_path) -> None:
    transform = at(180 - HALF_DEGREES, DEGREES)
    result = bench.assess(write_scene(tmp_path / "s.tif", ramp(), crs="EPSG:4326", transform=transform))
    table = bench.store.tiles(result.assessment.id)
    whole = shapely.area(shapely.polygons(table.corners))
    for name in ("out.geojson", "out.csv", "wgs84.gpkg", "wgs84.parquet"):
        out = tmp_path / name
        write_output(bench.store, [result.assessment.id], Output(out, footprints="wgs84"))
        if name.endswith("csv"):
            rows = pandas.read_csv(out)
            shapes = shapely.from_wkt(rows.footprint)
            assert rows.lon.abs().between(179.9, 180).all()
            assert (rows.lon > 0).any()
            assert (rows.lon < 0).any()
        else:
            frame = geopandas.read_parquet(out) if name.endswith("parquet") else geopandas.read_file(out)
            shapes = frame.geometry.to_numpy()
        assert len(shapes) == len(table)
        west, _, east, _ = shapely.total_bounds(shapes)
        assert (west, east) == (-180, 180)
        cut = np.array([len(getattr(shape, "geoms", [shape])) == 2 for shape in shapes])
        assert 4 <= cut.sum() <= 8
        np.testing.assert_allclose(shapely.area(shapes), whole, rtol=1e-3)
        pieces = shapely.bounds(shapely.get_parts(shapes))
        assert (pieces[:, 2] - pieces[:, 0]).max() < 0.001


@pytest.mark.parametrize(("crs", "transform"), ACROSS)
def test_files_in_the_scenes_coordinates_lie_on_the_scene(bench, tmp_path, crs, transform) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", ramp(), crs=crs, transform=transform))
    write_output(bench.store, [result.assessment.id], Output(tmp_path / "out.gpkg"))
    shapes = geopandas.read_file(tmp_path / "out.gpkg").geometry.to_numpy()
    corners = shapely.get_coordinates(shapely.convex_hull(shapely.union_all(shapes)))
    px, py = ~transform @ tuple(corners.T)
    assert min(px.min(), py.min()) > -160
    assert max(px.max(), py.max()) < SIDE + 160


def test_an_area_and_a_mask_across_the_antimeridian_are_met_on_both_sides(bench, tmp_path) -> None:
    transform = at(180 - HALF_DEGREES, DEGREES)
    scene = write_scene(tmp_path / "s.tif", ramp(), crs="EPSG:4326", transform=transform)
    halves = [shapely.box(179.9991, -17.0017, 180, -17.0001), shapely.box(-180, -17.0017, -179.9991, -17.0001)]
    area = tmp_path / "area.geojson"
    geopandas.GeoDataFrame(geometry=[shapely.MultiPolygon(halves)], crs=4326).to_file(area)
    values = np.zeros((96, 96), np.uint8)
    values[:, 12:36] = 1
    values[:, 60:84] = 1
    layout = {"tiled": None, "blockxsize": None, "blockysize": None}
    mask = write_scene(tmp_path / "m.tif", values, crs="EPSG:4326", transform=transform @ Affine.scale(8), **layout)
    table = bench.tiles(scene, area=area)
    inside = table.state > 0
    assert inside.sum() >= 6
    assert (table.center[inside, 0] > 180).any()
    assert (table.center[inside, 0] < 180).any()
    masked = bench.tiles(scene, mask=mask)
    column = (masked.center[:, 0] - 180 + HALF_DEGREES) / DEGREES.a
    clear = np.abs(masked.center[:, 1] + 17.0017) < 0.001
    for place in (192, 576):
        assert set(masked.reason[clear & (np.abs(column - place) < 40)]) == {"masked"}


def test_a_tile_across_the_antimeridian_can_be_looked_at(bench, tmp_path) -> None:
    transform = at(180 - HALF_DEGREES, DEGREES)
    result = bench.assess(write_scene(tmp_path / "s.tif", ramp(), crs="EPSG:4326", transform=transform))
    table = bench.store.tiles(result.assessment.id)
    middle = int(np.argmin(np.abs(table.center - [180, -17.0017]).sum(axis=1)))
    pixels = tile_pixels(bench.store.scenes()[0], result.assessment, int(table.row[middle]), int(table.col[middle]))
    assert pixels.mean() / 255 == pytest.approx(table.probability[middle], abs=1e-6)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:32661", metres(0.5, 2000000 - 192, 2000000 + 192), id="north pole, in place"),
        pytest.param("EPSG:3413", metres(0.45, -192, 192), id="north pole, another system"),
        pytest.param("EPSG:3031", metres(0.5, -192, 192), id="south pole"),
        pytest.param("EPSG:3031", metres(0.5, 0, -1e6), id="Antarctic coast at 180"),
    ],
)
@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_a_polar_scene_is_assessed_and_written(bench, tmp_path: Path, crs, transform, suffix: str) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", ramp(), crs=crs, transform=transform))
    assert result.count.n >= 16
    west, south, east, north = bench.store.scenes()[0].bounds
    assert -180 <= west < east <= 181
    assert abs(south if south < 0 else north) > 80
    assert (
        write_output(bench.store, [result.assessment.id], Output(tmp_path / f"o{suffix}"))
        == result.assessment.tiles_total
    )
