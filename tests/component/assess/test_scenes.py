"""Scenes of every kind give the rows they should; the model's answer is the brightness it was shown."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from atalaya_serving.store import TileTable
from rasters import TILE, UTM18, brightness, steps, textured, write_scene


def expect_steps(table: TileTable, rows: int = 4, cols: int = 5, tolerance: float = 0.5) -> None:
    """Every tile is there, in its own brightness."""
    assert list(zip(table.row, table.col, strict=True)) == list(np.ndindex(rows, cols))
    expected = [brightness(row, col) for row, col in np.ndindex(rows, cols)]
    np.testing.assert_allclose(table.probability * 255, expected, atol=tolerance)
    assert (table.state == 1 + (table.probability >= 0.5)).all()
    assert (table.reason == "").all()
    assert (table.inference_seconds > 0).all()
    assert (table.total_seconds >= table.inference_seconds).all()


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({}, id="tiled"),
        pytest.param({"blockxsize": 512, "blockysize": 512}, id="large blocks"),
        pytest.param({"blockxsize": 48, "blockysize": 80}, id="odd blocks"),
        pytest.param({"tiled": False, "blockxsize": None, "blockysize": 1}, id="striped by row"),
        pytest.param({"tiled": False, "blockxsize": None, "blockysize": 512}, id="one strip"),
        pytest.param({"driver": "COG", "tiled": None, "blockxsize": None, "blockysize": None}, id="cloud-optimised"),
        pytest.param({"compress": "lzw", "predictor": 2}, id="lzw"),
        pytest.param({"BIGTIFF": "YES"}, id="BigTIFF"),
        pytest.param({"ENDIANNESS": "BIG"}, id="big-endian"),
    ],
)
def test_any_layout_of_a_geotiff_gives_the_same_rows(bench, tmp_path: Path, layout: dict) -> None:
    expect_steps(bench.tiles(write_scene(tmp_path / "s.tif", steps(), **layout)), tolerance=0.01)


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_and_readers_change_no_row(bench, tmp_path: Path, readers: int, batch: int) -> None:
    expect_steps(bench.tiles(write_scene(tmp_path / "s.tif", steps()), readers=readers, batch=batch), tolerance=0.01)


def test_colour_is_seen_as_luma(bench, tmp_path: Path) -> None:
    bands = np.stack([textured(np.full((128, 256), value, np.uint8)) for value in (200, 100, 50)])
    scene = write_scene(tmp_path / "s.tif", bands, photometric="RGB")
    assert bench.tiles(scene).probability * 255 == pytest.approx(
        np.rint(0.299 * 200 + 0.587 * 100 + 0.114 * 50), abs=0.1
    )


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_go_by_colour_not_by_order(bench, tmp_path: Path, interleave: str) -> None:
    bands = np.stack([textured(np.full((128, 256), value, np.uint8)) for value in (9, 50, 100, 200)])
    colours = ["undefined", "blue", "green", "red"]
    scene = write_scene(tmp_path / "s.tif", bands, colours=colours, photometric="MINISBLACK", interleave=interleave)
    assert bench.tiles(scene).probability * 255 == pytest.approx(
        np.rint(0.299 * 200 + 0.587 * 100 + 0.114 * 50), abs=0.1
    )


@pytest.mark.parametrize(
    ("dtype", "factor", "offset"), [("uint16", 12, 300), ("int16", -20, 90), ("float32", 0.003, 0.1)]
)
def test_other_types_are_stretched_and_the_stretch_is_kept(bench, tmp_path: Path, dtype, factor, offset) -> None:
    values = (steps().astype(float) * factor + offset).astype(dtype)
    result = bench.assess(write_scene(tmp_path / "s.tif", values))
    low, high = result.assessment.stretch
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2, 98])), rel=0.02)
    shown = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    expected = shown.reshape(4, TILE, 5, TILE).mean(axis=(1, 3)).ravel()
    table = bench.store.tiles(result.assessment.id)
    known = table.state > 0
    np.testing.assert_allclose(table.probability[known], expected[known], atol=0.003)
    # Beyond the stretch all is black or white: nothing to see.
    assert set(expected[~known]) <= {0.0, 1.0}
    assert known.sum() >= 18


def test_the_scale_can_be_said(bench, tmp_path: Path) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", steps().astype(np.uint16) * 10), scale=(0.0, 2550.0))
    assert result.assessment.stretch == (0.0, 2550.0)
    expect_steps(bench.store.tiles(result.assessment.id), tolerance=0.01)


def test_a_partial_edge_tile_is_filled_with_the_mean_of_its_pixels(bench, tmp_path: Path) -> None:
    pixels = steps()[:-20, :-40]
    expect_steps(bench.tiles(write_scene(tmp_path / "s.tif", pixels)), tolerance=0.01)


def test_an_edge_tile_that_is_mostly_off_the_scene_is_not_assessed(bench, tmp_path: Path) -> None:
    table = bench.tiles(write_scene(tmp_path / "s.tif", steps()[:, : 4 * TILE + 60]))
    assert table.reason[table.col == 4].tolist() == ["nodata"] * 4
    assert (table.state[table.col < 4] > 0).all()


def half_invalid() -> np.ndarray:
    """Valid pixels: nothing of tile (0, 0), 40% of (1, 1), 60% of (2, 2), all of the others."""
    valid = np.ones(steps().shape, bool)
    valid[:TILE, :TILE] = False
    valid[TILE : 2 * TILE, TILE : TILE + 77] = False
    valid[2 * TILE : 3 * TILE, 2 * TILE : 2 * TILE + 51] = False
    return valid


def with_nodata(path: Path, valid: np.ndarray) -> Path:
    return write_scene(path, np.where(valid, steps(), 0).astype(np.uint8), nodata=0)


def with_alpha(path: Path, valid: np.ndarray) -> Path:
    bands = np.stack([np.where(valid, steps(), 0).astype(np.uint8), valid * np.uint8(255)])
    return write_scene(path, bands, alpha="YES")


def with_mask(path: Path, valid: np.ndarray) -> Path:
    return write_scene(path, np.where(valid, steps(), 255).astype(np.uint8), mask=valid)


def with_nan(path: Path, valid: np.ndarray) -> Path:
    return write_scene(path, np.where(valid, steps(), np.nan).astype(np.float32))


def with_nan_nodata(path: Path, valid: np.ndarray) -> Path:
    return write_scene(path, np.where(valid, steps(), np.nan).astype(np.float32), nodata=np.nan)


WAYS = [with_nodata, with_alpha, with_mask, with_nan, with_nan_nodata]


@pytest.mark.parametrize("write", WAYS)
def test_invalid_pixels_are_never_shown_to_the_model(bench, tmp_path: Path, write) -> None:
    table = bench.tiles(write(tmp_path / "s.tif", half_invalid()), scale=(0.0, 255.0))
    refused = (table.row == table.col) & (table.row < 2)
    assert table.reason[refused].tolist() == ["nodata"] * 2
    assert (table.state[refused] == 0).all()
    assert np.isnan(table.probability[refused]).all()
    expected = [brightness(row, col) for row, col in zip(table.row[~refused], table.col[~refused], strict=True)]
    np.testing.assert_allclose(table.probability[~refused] * 255, expected, atol=0.51)


@pytest.mark.parametrize("write", WAYS)
def test_invalid_pixels_stay_invalid_through_a_warp(bench, tmp_path: Path, write) -> None:
    scene = write(tmp_path / "s.tif", half_invalid())
    with rasterio.open(scene, "r+") as dataset:
        dataset.transform = UTM18 @ Affine.scale(0.8)
    table = bench.tiles(scene, scale=(0.0, 255.0))
    known = table.probability[table.state > 0] * 255
    assert known.min() >= brightness(0, 1) - 1
    assert known.max() <= brightness(3, 4) + 1
    assert table.reason[(table.row == 0) & (table.col == 0)].tolist() == ["nodata"]


def test_an_empty_scene_is_wholly_not_assessed(bench, tmp_path: Path) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", np.zeros((256, 256), np.uint8), nodata=0))
    assert result.not_assessed == {"nodata": 4}
    assert (result.count.n, result.count.expected) == (0, 0)
    assert result.assessment.state == "complete"


def in_degrees(pixels: np.ndarray) -> dict:
    lon, lat = Transformer.from_crs(32618, 4326, always_xy=True).transform(783000, 2052000)
    return {"crs": "EPSG:4326", "transform": Affine(4.74e-6, 0, lon, 0, -4.52e-6, lat)}


def in_web_mercator(pixels: np.ndarray) -> dict:
    x, y = Transformer.from_crs(32618, 3857, always_xy=True).transform(783000, 2052000)
    return {"crs": "EPSG:3857", "transform": Affine(0.5274, 0, x, 0, -0.5274, y)}


def in_feet(pixels: np.ndarray) -> dict:
    return {"crs": "EPSG:2263", "transform": Affine(1.6404, 0, 990000, 0, -1.6404, 200000)}


def rotated(pixels: np.ndarray) -> dict:
    return {"transform": UTM18 @ Affine.rotation(25)}


def south_up(pixels: np.ndarray) -> dict:
    return {"transform": Affine(0.5, 0, 783000, 0, 0.5, 2051000)}


@pytest.mark.parametrize("place", [in_degrees, in_web_mercator, in_feet, rotated, south_up])
def test_a_scene_in_any_coordinate_system_shows_each_place_in_its_brightness(bench, tmp_path: Path, place) -> None:
    """Brightness grows smoothly over the scene; what the model saw at a tile's centre is what lies there on Earth."""
    y, x = np.mgrid[:640, :640]
    pixels = (60 + x * 0.1 + y * 0.15).astype(np.uint8)
    where = place(pixels)
    scene = write_scene(tmp_path / "s.tif", pixels, **where)
    result = bench.assess(scene)
    assert result.assessment.grid.warped
    table = bench.store.tiles(result.assessment.id)
    to_scene = Transformer.from_crs(4326, where.get("crs", "EPSG:32618"), always_xy=True)
    transform = where.get("transform", UTM18)
    corners = np.array([~transform @ to_scene.transform(*corner) for corner in table.corners.reshape(-1, 2)])
    inside = ((corners > 2) & (corners < 638)).all(axis=1).reshape(-1, 4).all(axis=1)
    assert inside.sum() >= 4
    centre = corners.reshape(-1, 4, 2).mean(axis=1)[inside]
    expected = 60 + centre[:, 0] * 0.1 + centre[:, 1] * 0.15 - 0.5
    np.testing.assert_allclose(table.probability[inside] * 255, expected, atol=1.0)


def test_a_coarser_scene_is_assessed_with_a_warning(bench, tmp_path: Path) -> None:
    result = bench.assess(write_scene(tmp_path / "s.tif", steps(), transform=UTM18 @ Affine.scale(2)))
    assert len(result.warnings) == 1
    assert "has 1.00 m a pixel and brightness was trained on 0.5 m" in result.warnings[0]
    assert bench.store.assessment(result.assessment.id).warnings == result.warnings
    assert (result.assessment.grid_rows, result.assessment.grid_cols) == (8, 10)


def test_a_finer_scene_is_averaged_without_a_warning(bench, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 2, (1024, 1024)).astype(np.uint8) * 180 + np.uint8(10)
    result = bench.assess(write_scene(tmp_path / "s.tif", pixels, transform=UTM18 @ Affine.scale(0.25)))
    assert result.warnings == ()
    table = bench.store.tiles(result.assessment.id)
    np.testing.assert_allclose(table.probability * 255, 100, atol=3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_constant_scene_is_not_assessed_and_says_so(bench, tmp_path: Path, dtype: str, bands: int) -> None:
    pixels = np.full((bands, 256, 384), 77, dtype)
    result = bench.assess(write_scene(tmp_path / "s.tif", pixels, photometric="RGB" if bands == 3 else None))
    assert result.not_assessed == {"constant": 6}
    assert (result.count.n, result.assessment.state) == (0, "complete")
    (warning,) = result.warnings
    assert "all pixels that were looked at have the value 77; tiles of one value show nothing" in warning


def test_tiles_of_one_value_are_not_assessed(bench, tmp_path: Path) -> None:
    """Filled wholly or beside missing pixels; one pixel that differs is enough to be assessed."""
    pixels = steps()
    pixels[:TILE, :TILE] = 255
    pixels[:TILE, TILE : 2 * TILE] = 0
    pixels[0, TILE : TILE + 40] = 9
    pixels[TILE : 2 * TILE, :TILE] = 33
    pixels[TILE : TILE + 50, :TILE] = 1
    table = bench.tiles(write_scene(tmp_path / "s.tif", pixels, nodata=1))
    assert table.reason[[0, 1, 5]].tolist() == ["constant", "", "constant"]
    assert (table.state > 0).sum() == 18


@pytest.mark.parametrize(
    ("changes", "warned"), [({}, True), ({"nodata": 0}, False), ({"mask": np.ones((512, 640), bool)}, False)]
)
def test_zeros_that_nothing_marks_as_missing_are_told(bench, tmp_path: Path, changes: dict, warned: bool) -> None:
    """As the black collar that a warp leaves."""
    pixels = steps()
    pixels[:, :200] = 0
    warnings = bench.assess(write_scene(tmp_path / "s.tif", pixels, **changes)).warnings
    assert ["31% of its pixels are exactly 0 and nothing marks them" in warning for warning in warnings] == [
        True
    ] * warned


@pytest.mark.parametrize(("dtype", "fill"), [("int16", -9999), ("float32", -9999), ("float32", 1.0)])
def test_a_fill_value_that_nothing_marks_is_told(bench, tmp_path: Path, dtype: str, fill: float) -> None:
    pixels = (steps() + 100).astype(dtype)
    pixels[:, :200] = fill
    (warning,) = bench.assess(write_scene(tmp_path / "s.tif", pixels)).warnings
    assert f"31% of its pixels are exactly {fill:g} and nothing marks them as missing" in warning
    assert f"(gdal_edit.py -a_nodata {fill:g})" in warning


@pytest.mark.parametrize("fill", [np.finfo(np.float32).min, np.finfo(np.float32).max, 1e38])
def test_the_largest_numbers_there_are_mean_missing(bench, tmp_path: Path, fill: float) -> None:
    """As programs write them, often without saying so."""
    pixels = steps().astype(np.float32)
    pixels[:TILE, :TILE] = fill
    result = bench.assess(write_scene(tmp_path / "s.tif", pixels))
    assert result.not_assessed["nodata"] == 1
    low, high = result.assessment.stretch
    assert 0 < low < high < 255


def test_a_mask_in_a_file_of_its_own_is_told_as_not_read(bench, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", steps())
    write_scene(tmp_path / "s.tif.msk", steps())
    (warning,) = bench.assess(scene).warnings
    assert warning.startswith(f"{scene}.msk is not read, so what it marks as missing is taken for ground;")


def test_an_unreadable_part_costs_its_tiles_only(bench, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", steps(), blockxsize=128, blockysize=128)
    with rasterio.open(scene) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", 1))
    with scene.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 16)
    table = bench.tiles(scene)
    broken = (table.row == 1) & (table.col == 2)
    assert table.reason[broken].tolist() == ["unreadable"]
    assert (table.state[~broken] > 0).all()
    assert len(table) == 20


def test_the_overview_shows_the_scene_where_it_lies(bench, tmp_path: Path) -> None:
    import json

    valid = half_invalid()
    result = bench.assess(with_nodata(tmp_path / "s.tif", valid))
    folder = bench.scenes / result.assessment.scene_digest.removeprefix("sha256:")
    told = json.loads((folder / "overview.json").read_text())
    assert told["bounds"] == pytest.approx(bench.store.scenes()[0].bounds, abs=1e-6)
    with rasterio.open(folder / "overview.png") as picture:
        grey, alpha = picture.read()
        assert (picture.width, picture.height) == (told["width"], told["height"])
    for row, col in np.ndindex(4, 5):
        at = (int((row + 0.9) * told["height"] / 4.05), int((col + 0.9) * told["width"] / 5.05))
        if (row, col) == (0, 0):
            assert alpha[at] == 0
        elif (row, col) not in {(1, 1), (2, 2)}:
            assert abs(int(grey[at]) - brightness(row, col)) <= 1
            assert alpha[at] == 255
