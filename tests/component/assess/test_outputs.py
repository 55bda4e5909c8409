"""Files of results, read back with the libraries that people use."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from affine import Affine

from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT
from atalaya_serving.scoring.errors import OutputExists, ScenePixelsUnavailable
from atalaya_serving.scoring.outputs import Output, write_output
from atalaya_serving.scoring.pixels import tile_pixels
from rasters import TILE, UTM18, brightness, steps, write_scene

COLUMNS = [
    "scene",
    "row",
    "col",
    "state",
    "reason",
    "probability",
    "damaged",
    "model",
    "version",
    "model_digest",
    "engine",
    "engine_version",
    "precision",
    "protocol",
    "inference_seconds",
    "total_seconds",
    "created",
    "assessment",
    "partial",
]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """20 tiles, the first without data."""
    pixels = steps()
    pixels[:TILE, :TILE] = 0
    return write_scene(tmp_path / "port.tif", pixels, nodata=0)


def read(path: Path) -> pandas.DataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    if path.suffix == ".csv":
        frame = pandas.read_csv(path, keep_default_na=False, na_values={"probability": "", "damaged": ""})
        return geopandas.GeoDataFrame(frame, geometry=shapely.from_wkt(frame.pop("footprint")), crs=4326)
    return geopandas.read_file(path)


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson", ".csv"])
@pytest.mark.parametrize("footprints", ["scene", "wgs84"])
def test_every_format_holds_every_tile(bench, scene: Path, tmp_path: Path, suffix: str, footprints: str) -> None:
    result = bench.assess(scene)
    out = tmp_path / f"out{suffix}"
    assert write_output(bench.store, [result.assessment.id], Output(out, footprints=footprints)) == 20
    frame = read(out)
    assert [column for column in frame.columns if column not in {"geometry", "lon", "lat"}] == COLUMNS
    assert list(zip(frame.row, frame.col, strict=True)) == list(np.ndindex(4, 5))
    assert frame.state[0] == "not_assessed"
    assert frame.reason[0] == "nodata"
    assert pandas.isna(frame.probability[0])
    assert pandas.isna(frame.damaged[0])
    assert frame.state[1:].isin(["damaged", "not_damaged"]).all()
    assert ((frame.state[1:] == "damaged") == (frame.damaged[1:] == 1)).all()
    np.testing.assert_allclose(frame.probability[19] * 255, brightness(3, 4), atol=0.01)
    assert set(frame.scene) == {"port"}
    assert set(frame.engine) == {"openvino"}
    assert not frame.partial.any()
    degrees = footprints == "wgs84" or suffix in {".geojson", ".csv"}
    assert frame.crs.to_epsg() == (4326 if degrees else 32618)
    expected = bench.store.tiles(result.assessment.id)
    corners = expected.corners if degrees else expected.grid.corners(expected.row, expected.col)
    distance = shapely.hausdorff_distance(frame.geometry.to_numpy(), shapely.polygons(corners))
    assert distance.max() < 2e-7 if degrees else distance.max() == 0


def test_a_file_that_exists_is_left_alone(bench, scene: Path, tmp_path: Path) -> None:
    result = bench.assess(scene)
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(OutputExists):
        write_output(bench.store, [result.assessment.id], Output(out))
    assert out.read_text() == "mine"
    write_output(bench.store, [result.assessment.id], Output(out, overwrite=True))
    assert out.read_text().startswith("scene,row,col")


def test_nothing_is_left_beside_the_file(bench, scene: Path, tmp_path: Path) -> None:
    result = bench.assess(scene)
    (tmp_path / "results").mkdir()
    for suffix in (".parquet", ".gpkg", ".geojson", ".csv"):
        write_output(bench.store, [result.assessment.id], Output(tmp_path / "results" / f"out{suffix}"))
    assert len(list((tmp_path / "results").iterdir())) == 4


def test_scenes_of_different_systems_share_a_file_in_degrees(bench, scene: Path, tmp_path: Path) -> None:
    other = write_scene(tmp_path / "other.tif", steps(), crs="EPSG:32617")
    ids = [bench.assess(each).assessment.id for each in (scene, other)]
    write_output(bench.store, ids, Output(tmp_path / "out.gpkg"))
    frame = read(tmp_path / "out.gpkg")
    assert frame.crs.to_epsg() == 4326
    assert frame.scene.value_counts().to_dict() == {"port": 20, "other": 20}


def run(bench, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "atalaya", "assess", *map(str, options), "--model", "brightness"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | bench.environment(), check=False)


def test_the_command_sums_up_in_words(bench, scene: Path, tmp_path: Path) -> None:
    ran = run(bench, scene, "--out", tmp_path / "out.parquet")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[2] == f"  {INTERVAL_CAVEAT}"
    assert lines[0] == "port: 19 of 20 tiles assessed with brightness version 1; not assessed: 1 nodata"
    assert lines[1].startswith("  damaged: 6 tiles (90% interval ")
    assert lines[-1] == f"wrote {tmp_path / 'out.parquet'}: 20 rows"


def test_the_command_tells_programs_in_json(bench, scene: Path) -> None:
    ran = run(bench, scene, "--json", "--progress", "json")
    told = json.loads(ran.stdout)
    assert (told["scene"], told["tiles"], told["assessed"], told["not_assessed"]) == ("port", 20, 19, {"nodata": 1})
    assert told["damaged"]["low"] <= told["damaged"]["expected"] <= told["damaged"]["high"]
    assert (told["damaged"]["level"], told["damaged"]["caveat"]) == (0.9, INTERVAL_CAVEAT)
    last = json.loads(ran.stderr.splitlines()[-1])
    assert (last["event"], last["done"], last["total"], last["resumed"]) == ("progress", 20, 20, 0)
    assert bench.store.assessment(told["assessment"]).state == "complete"


@pytest.fixture
def guessed(tmp_path: Path) -> Path:
    """Two warnings: coarser than the model, and bands without names."""
    bands = np.stack([steps()] * 3)
    return write_scene(tmp_path / "c.tif", bands, transform=UTM18 @ Affine.scale(2), photometric="MINISBLACK")


def test_warnings_come_before_the_first_tile_and_stay_with_the_result(bench, guessed: Path) -> None:
    ran = run(bench, guessed, "--json", "--progress", "json")
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["event"] for event in events[:3]] == ["warning", "warning", "progress"]
    told = json.loads(ran.stdout)
    assert told["warnings"] == [event["message"] for event in events[:2]]
    assert ["taken as red" in told["warnings"][0], "1.00 m a pixel" in told["warnings"][1]] == [True, True]
    assert bench.store.assessment(told["assessment"]).warnings == tuple(told["warnings"])
    words = run(bench, guessed)
    assert words.stderr == "".join(f"warning: {warning}\n" for warning in told["warnings"])


def test_files_of_results_carry_the_warnings(bench, guessed: Path, scene: Path, tmp_path: Path) -> None:
    import pyogrio

    results = [bench.assess(each) for each in (guessed, scene)]
    expected = list(results[0].warnings)
    assert len(expected) == 2
    for suffix in (".parquet", ".gpkg", ".geojson", ".csv"):
        for ids in ([results[0].assessment.id], [result.assessment.id for result in results]):
            write_output(bench.store, ids, Output(tmp_path / f"o{suffix}", overwrite=True))
            if suffix == ".parquet":
                assert geopandas.read_parquet(tmp_path / "o.parquet").attrs == {"warnings": expected}
            elif suffix == ".gpkg":
                assert pyogrio.read_info(tmp_path / "o.gpkg")["layer_metadata"] == {"warnings": "\n".join(expected)}
            elif suffix == ".geojson":
                assert json.loads((tmp_path / "o.geojson").read_text())["warnings"] == expected
            else:
                assert "warning" not in (tmp_path / "o.csv").read_text()
    write_output(bench.store, [results[1].assessment.id], Output(tmp_path / "o.geojson", overwrite=True))
    assert json.loads((tmp_path / "o.geojson").read_text())["warnings"] == []


def test_a_scene_given_twice_is_refused(bench, scene: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.tif"
    link.symlink_to(scene)
    twice, linked = run(bench, scene, scene), run(bench, scene, link)
    assert (twice.returncode, linked.returncode) == (2, 2)
    assert f"error: {scene} is given twice; name each scene once.\n" in twice.stderr
    assert f"error: {link} is given twice (it is {scene}); name each scene once.\n" in linked.stderr


def test_two_files_of_one_content_are_counted_and_written_once(bench, scene: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(scene.read_bytes())
    ran = run(bench, scene, copy, "--out", tmp_path / "o.csv")
    assert ran.stderr == f"warning: {copy} has the content of {scene}: it is counted once\n"
    assert ran.stdout.count("tiles assessed") == 1
    assert len(read(tmp_path / "o.csv")) == 20


def test_partial_writes_what_there_is_and_marks_it(bench, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    refused = run(bench, scene, "--partial", "--out", out)
    assert refused.returncode == 2
    assert "has no rows under this model and these options" in refused.stderr
    result = bench.assess(scene)
    bench.store.end(result.assessment.id, "failed", "stopped")
    with bench.store._engine.begin() as connection:
        connection.exec_driver_sql('DELETE FROM tiles WHERE "row" > 1')
    ran = run(bench, scene, "--partial", "--out", out)
    assert ran.stdout == f"{out}: 10 of 20 tiles (partial)\n"
    assert read(out).partial.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partial"], "--partial writes what there is into a file; name the file with --out."),
        (["--overwrite"], "--overwrite replaces a file of results; name the file with --out."),
        (["--footprints", "wgs84"], "--footprints chooses the coordinates of a file of results; name the file with"),
        (["--footprints", "scene"], "--footprints chooses the coordinates of a file of results; name the file with"),
        (["--manifest", "m.yaml"], "--manifest tells what an endpoint serves; give --endpoint"),
        (["--scale", "9,1"], "LO must be below HI"),
        (["--bands", "1,2"], "give one band or three"),
        (["--batch", "0"], "is not a whole number above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(bench, scene: Path, options: list[str], message: str) -> None:
    ran = run(bench, scene, *options)
    assert ran.returncode == 2
    assert message in ran.stderr


def test_a_tiles_pixels_are_those_the_model_saw(bench, tmp_path: Path) -> None:
    values = steps().astype(np.uint16) * 9
    values[: TILE // 3, :TILE] = 0
    result = bench.assess(write_scene(tmp_path / "s.tif", values[:-20, :-20], nodata=0), scale=(0.0, 2295.0))
    table = bench.store.tiles(result.assessment.id)
    record = bench.store.scenes()[0]
    for row, col, probability in zip(table.row, table.col, table.probability, strict=True):
        pixels = tile_pixels(record, result.assessment, int(row), int(col))
        assert (pixels.shape, pixels.dtype) == ((128, 128), np.uint8)
        assert pixels.mean() / 255 == pytest.approx(probability, abs=1e-6)


def test_pixels_of_a_scene_that_moved_or_changed_are_not_there(bench, scene: Path) -> None:
    result = bench.assess(scene)
    record = bench.store.scenes()[0]
    with pytest.raises(ScenePixelsUnavailable, match="the pixels of port are not there"):
        tile_pixels(replace(record, path="/nowhere.tif"), result.assessment, 1, 1)
    write_scene(scene, steps(5, 5))
    with pytest.raises(ScenePixelsUnavailable, match="is not the file that was assessed"):
        tile_pixels(record, result.assessment, 1, 1)


@pytest.mark.data
def test_the_real_composite_is_assessed_in_the_order_of_its_truth(bench, haiti_data: Path) -> None:
    """And as well as the model card says, within what another processor's arithmetic may move."""
    from atalaya_serving.paths import shipped_repository
    from atalaya_serving.training.metrics import score
    from atalaya_spec.manifest import find_version

    model = find_version(shipped_repository(), "haiti-damage")
    table = bench.tiles(haiti_data / "haiti-composite.tif", model=str(model))
    truth = geopandas.read_file(haiti_data / "haiti-composite-truth.geojson").sort_values(["row", "col"])
    assert list(zip(table.row, table.col, strict=True)) == list(zip(truth.row, truth.col, strict=True))
    card = (model.parent / "README.md").read_text(encoding="utf-8")
    told = re.search(r"accuracy (0\.\d+), AUROC (0\.\d+), Brier score (0\.\d+); (\d+) tiles", " ".join(card.split()))
    assert told, "the card does not tell the composite's score"
    found = score(table.probability, truth.damaged.to_numpy().astype(np.uint8), threshold=0.5)
    figures = [found.accuracy.value, found.auroc.value, found.brier.value, np.sum(table.probability)]
    assert [float(one) for one in told.groups()] == pytest.approx(figures, rel=0.01, abs=0.006)
    apart = shapely.hausdorff_distance(truth.geometry.to_numpy(), shapely.polygons(table.corners))
    assert apart.max() < 1e-7
