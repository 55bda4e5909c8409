"""What cannot be assessed is refused before any work, each with its own message: the thing, the fact, the next step."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

from atalaya_serving.errors import ModelLoadFailed
from atalaya_serving.scoring.errors import (
    AreaUnreadable,
    OutputExists,
    OutputUnknown,
    OutputUnwritable,
    SceneUnfit,
    SceneUnmappable,
    SceneUnplaced,
    SceneUnreadable,
)
from atalaya_serving.scoring.outputs import Output, check_output
from atalaya_spec.errors import InvalidManifest, UsageError
from disks import small_disk
from rasters import steps, write_scene


def missing(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def not_a_tiff(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def vrt(path: Path) -> None:
    path.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')


def header_only(path: Path) -> None:
    path.write_bytes(b"II*\0" + bytes(4))


def truncated(path: Path) -> None:
    write_scene(path, np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8))
    os.truncate(path, path.stat().st_size // 2)


def truncated_early(path: Path) -> None:
    """Cut within the directory."""
    write_scene(path, steps())
    os.truncate(path, 60)


def truncated_cog(path: Path) -> None:
    """Its directory lies in front, so it opens; its pixels are missing."""
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024), dtype=np.uint8)
    write_scene(path, noise, driver="COG", tiled=None, blockxsize=None, blockysize=None)
    os.truncate(path, path.stat().st_size * 2 // 3)


def zero_size(path: Path) -> None:
    """A TIFF of 0 x 0 pixels, by hand: no library writes one."""
    entries = [(256, 4, 1, 0), (257, 4, 1, 0), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4))


def no_crs(path: Path) -> None:
    write_scene(path, steps(), crs=None)


def no_georeference(path: Path) -> None:
    write_scene(path, steps(), transform=None)


def control_points(path: Path) -> None:
    write_scene(path, steps(), transform=None)
    points = [rasterio.control.GroundControlPoint(r, c, c, -r) for r, c in ((0, 0), (0, 9), (9, 0))]
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(32618))


def flat_transform(path: Path) -> None:
    write_scene(path, steps(), transform=Affine(0.5, 0, 783000, 0.5, 0, 2052000))


def off_the_earth(path: Path) -> None:
    write_scene(path, steps(), crs="EPSG:4326", transform=Affine(1, 0, 500, 0, -1, 4000))


def kilometres(path: Path) -> None:
    write_scene(path, steps(), transform=Affine(1000, 0, 500000, 0, -1000, 2052000))


def degrees_called_metres(path: Path) -> None:
    write_scene(path, steps(), transform=Affine(5e-6, 0, 500000, 0, -5e-6, 2052000))


def atoms(path: Path) -> None:
    write_scene(path, steps(), transform=Affine(1e-9, 0, 500000, 0, -1e-9, 2052000))


def thin_pixels(path: Path) -> None:
    write_scene(path, steps(), transform=Affine(0.5, 0, 500000, 0, -50, 2052000))


def one_degree_pixels(path: Path) -> None:
    write_scene(path, steps()[:90, :180], crs="EPSG:4326", transform=Affine(1, 0, -90, 0, -1, 45))


def smaller_than_a_tile(path: Path) -> None:
    write_scene(path, steps()[:60, :80])


def endless(path: Path) -> None:
    write_scene(path, np.zeros((1, 1), np.uint8), SPARSE_OK=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=450_000,
        height=450_000,
        count=1,
        dtype="uint8",
        crs="EPSG:32618",
        transform=Affine(0.5, 0, 300000, 0, -0.5, 2052000),
        tiled=True,
        blockxsize=16384,
        blockysize=16384,
        SPARSE_OK=True,
        BIGTIFF="YES",
    ):
        pass


def complex_numbers(path: Path) -> None:
    write_scene(path, steps().astype(np.complex64))


def palette(path: Path) -> None:
    write_scene(path, steps())
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})


def negative(path: Path) -> None:
    write_scene(path, steps(), photometric="MINISWHITE")


def classes(path: Path) -> None:
    write_scene(path, np.random.default_rng(0).integers(0, 6, (300, 300), dtype=np.uint8))


def two_bands(path: Path) -> None:
    write_scene(path, np.stack([steps()] * 2), photometric="MINISBLACK")


def all_nan(path: Path) -> None:
    write_scene(path, np.full((256, 256), np.nan, np.float32))


def all_nodata(path: Path) -> None:
    write_scene(path, np.full((256, 256), 9, np.uint16), nodata=9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            missing,
            SceneUnreadable,
            "SCENE cannot be read (No such file or directory); check the path and its",
        ),
        (folder, SceneUnreadable, "SCENE cannot be read (Is a directory); check the path and its permissions."),
        (empty, SceneUnreadable, "SCENE is empty; copy or download it again."),
        (
            not_a_tiff,
            SceneUnreadable,
            "SCENE is not a TIFF; give a GeoTIFF (gdal_translate makes one of",
        ),
        (vrt, SceneUnreadable, "SCENE is not a TIFF; give a GeoTIFF"),
        (header_only, SceneUnreadable, "SCENE cannot be opened as a GeoTIFF"),
        (truncated, SceneUnreadable, "SCENE is cut short: it has 131,312 bytes and its pixels reach to 131,"),
        (truncated_early, SceneUnreadable, "it is damaged or cut short; copy or download it again."),
        (truncated_cog, SceneUnreadable, "SCENE is cut short: it has "),
        (zero_size, SceneUnreadable, "SCENE cannot be opened as a GeoTIFF"),
        (no_crs, SceneUnplaced, "SCENE has no coordinate reference system; name it with gdal_edit.py -a_srs EPSG:CODE"),
        (no_georeference, SceneUnplaced, "SCENE has no georeference (its transform is the identity); give the georef"),
        (control_points, SceneUnplaced, "SCENE has no georeference but ground control points; warp it first"),
        (flat_transform, SceneUnplaced, "SCENE has a transform that places no pixel"),
        (off_the_earth, SceneUnplaced, "SCENE lies where its coordinate system cannot be turned into degrees"),
        (
            kilometres,
            SceneUnfit,
            "SCENE has pixels of 999 m x 999 m on the ground, and a tile is 64 m wide: with fewer than 8 pixels",
        ),
        (
            degrees_called_metres,
            SceneUnfit,
            "SCENE has pixels of 5e-06 m x 5e-06 m on the ground, and the model knows 0.5 m; resample it first",
        ),
        (atoms, SceneUnfit, "check its transform and the unit of its coordinate reference system (gdalinfo)."),
        (thin_pixels, SceneUnfit, "SCENE has pixels of 0.5 m x 50 m on the ground"),
        (one_degree_pixels, SceneUnfit, "give a scene of 8 m or finer, or check its transform"),
        (
            smaller_than_a_tile,
            SceneUnfit,
            "SCENE is 40 m x 30 m on the ground, too small for one tile of 64 m (50% of it must be filled)",
        ),
        (endless, SceneUnfit, "SCENE would be 12,362,256 tiles, more than 10,000,000; cut it into parts"),
        (
            complex_numbers,
            SceneUnmappable,
            "SCENE holds complex numbers (complex64); make an amplitude image",
        ),
        (palette, SceneUnmappable, "SCENE has a colour table: its values are labels, not brightness; expand it first"),
        (negative, SceneUnmappable, "SCENE stores white as 0 (MINISWHITE), a negative to the model; turn it round"),
        (classes, SceneUnmappable, "SCENE looks like a map of classes (one band, values 0 to 5), not an image"),
        (
            two_bands,
            SceneUnmappable,
            "SCENE has bands (gray, undefined) that cannot be mapped to gray; say which",
        ),
        (all_nan, SceneUnmappable, "SCENE has no valid pixel (all are nodata or NaN); check the file."),
        (all_nodata, SceneUnmappable, "SCENE has no valid pixel (all are nodata or NaN); check the file."),
    ],
)
def test_a_scene_that_cannot_be_assessed_is_refused(bench, tmp_path: Path, make, error, message: str) -> None:
    scene = tmp_path / "scene.tif"
    make(scene)
    with pytest.raises(error) as caught:
        bench.assess(scene)
    told = str(caught.value)
    assert message.replace("SCENE", str(scene)) in told
    assert "\n" not in told
    assert bench.store.assessments() == []


def test_classes_that_are_an_image_are_assessed_when_their_range_is_said(bench, tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    classes(scene)
    assert bench.assess(scene, scale=(0.0, 5.0)).count.n > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "does not exist; check the path of --area or --mask.", id="missing"),
        pytest.param("nonsense", "is neither polygons (GeoJSON, GeoPackage, shapefile) nor a GeoTIFF", id="nonsense"),
        pytest.param({"type": "Point", "coordinates": [-72.3, 18.5]}, "has shapes that are no polygons", id="points"),
        pytest.param(None, "does not exist", id="gone"),
    ],
)
@pytest.mark.parametrize("option", ["area", "mask"])
def test_an_area_that_cannot_be_used_is_refused(bench, tmp_path: Path, option: str, text, message: str) -> None:
    file = tmp_path / "area.geojson"
    if isinstance(text, dict):
        file.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": text}))
    elif text is not None:
        file.write_text(text)
    with pytest.raises(AreaUnreadable) as caught:
        bench.assess(write_scene(tmp_path / "s.tif", steps()), **{option: file})
    assert str(caught.value).startswith(f"{file} {message}")


def test_an_area_raster_without_a_coordinate_system_is_refused(bench, tmp_path: Path) -> None:
    area = write_scene(tmp_path / "area.tif", steps(), crs=None)
    with pytest.raises(AreaUnreadable, match="has no coordinate reference system"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()), area=area)


def test_an_unknown_model_is_refused_with_those_there_are(bench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no model 'nothing' in .*; it has: brightness\.$"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()), model="nothing")


def test_a_model_file_that_changed_is_refused(bench, tmp_path: Path) -> None:
    with (bench.version / "model.xml").open("a") as file:
        file.write("\n")
    with pytest.raises(InvalidManifest, match="one of them was changed or damaged; export the model again"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()))


def edit_manifest(bench, **changes: dict) -> None:
    file = bench.version / "manifest.yaml"
    manifest = yaml.safe_load(file.read_text())
    for part, fields in changes.items():
        manifest[part] = manifest[part] | fields if isinstance(fields, dict) else fields
    from atalaya_spec.manifest import version_digest

    manifest["digest"] = version_digest(bench.version)
    file.write_text(yaml.safe_dump(manifest))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": {"name": "image"}}, "the manifest names 'image', the model has tiles; correct one."),
        ({"output": {"name": "p"}}, "the manifest names 'p', the model has probability; correct one."),
        (
            {"input": {"shape": [-1, 64, 64, 1], "tileSize": 64}},
            "the manifest gives 'tiles' the shape [-1, 64, 64, 1], the model has [-1, 128, 128, 1]; correct one.",
        ),
        ({"input": {"tileSize": 64}}, "do not fit together; correct them."),
        ({"input": {"dtype": "float32"}}, "a scene needs one for tile-classification on uint8 NHWC."),
        ({"task": "image-classification"}, "a model for image-classification"),
    ],
)
def test_a_manifest_that_contradicts_its_model_is_refused(bench, tmp_path: Path, changes, message: str) -> None:
    edit_manifest(bench, **changes)
    with pytest.raises(InvalidManifest) as caught:
        bench.assess(write_scene(tmp_path / "s.tif", steps()))
    assert message in str(caught.value)


def test_a_corrupt_model_is_refused(bench, tmp_path: Path) -> None:
    (bench.version / "model.xml").write_text("<net>")
    edit_manifest(bench)
    with pytest.raises(ModelLoadFailed, match="is not a model that OpenVINO can read"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "out.shp",
            OutputUnknown,
            "out.shp ends in .shp, a format that is not written; end it in one of .parquet, .gpkg, .geojson, .csv.",
        ),
        ("out", OutputUnknown, "out has no suffix to tell its format by; end it in one of .parquet, .gpkg, .geojson"),
        (".csv", OutputUnknown, ".csv has no suffix to tell its format by; end it in one of .parquet, .gpkg, .geojson"),
        ("there.csv", OutputExists, "there.csv exists; give --overwrite to replace it, or another --out."),
        (
            "nowhere/out.csv",
            OutputUnwritable,
            "nowhere cannot be written to (No such file or directory); give",
        ),
        ("there.csv/out.csv", OutputUnwritable, "there.csv cannot be written to (Not a directory)"),
        ("folder.csv", OutputUnwritable, "folder.csv is a folder; name a file."),
    ],
)
def test_an_output_that_would_fail_is_refused_before_the_work(tmp_path: Path, name: str, error, message: str) -> None:
    (tmp_path / "there.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(error) as caught:
        check_output(Output(tmp_path / name))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_an_output_may_be_replaced_when_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "there.csv").touch()
    check_output(Output(tmp_path / "there.csv", overwrite=True))


def assess_command(bench, scene: Path, *options: object) -> list[str]:
    return [sys.executable, "-m", "atalaya", "assess", str(scene), "--model", "brightness", *map(str, options)]


def run(command: list[str], bench) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | bench.environment(), check=False)


def test_a_read_only_folder_is_refused(bench, tmp_path: Path) -> None:
    """A read-only mount stops root too, as permissions would not."""
    scene, folder = write_scene(tmp_path / "s.tif", steps()), tmp_path / "locked"
    folder.mkdir()
    namespace = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    mount = ["sh", "-c", 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"', str(folder)]
    command = assess_command(bench, scene, "--out", folder / "out.gpkg")
    ran = run([*namespace, *mount, *command], bench)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"atalaya assess: error: {folder} cannot be written to (Read-only file system); give --out in a folder you may "
        "write to.\n"
    )
    assert bench.store.assessments() == []


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson", ".csv"])
def test_a_disk_that_is_full_at_the_end_is_said_and_the_rows_are_safe(bench, tmp_path: Path, suffix: str) -> None:
    """A real full disk: the file of 20 tiles does not fit in what is left of a tmpfs."""
    scene, folder = write_scene(tmp_path / "s.tif", steps()), tmp_path / "small"
    folder.mkdir()
    filled = f'head -c 28K /dev/zero > {folder}/ballast; exec "$@"'
    command = ["sh", "-c", filled, "sh", *assess_command(bench, scene, "--out", folder / f"out{suffix}")]
    command = small_disk(folder, "32k", command)
    ran = run(command, bench)
    assert ran.returncode == 1, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("atalaya assess: error: ")
    assert "free space" in line
    assert len(bench.store.scenes()) <= 1


WRITE_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from atalaya_serving.scoring import outputs
from atalaya_serving.scoring.errors import OutputUnwritable
from atalaya_serving.store import Store
outputs._BYTES_A_TILE = dict.fromkeys(outputs._BYTES_A_TILE, 0)
with Store.open(sys.argv[1]) as store:
    (assessment,) = store.assessments()
    try:
        outputs.write_output(store, [assessment.id], outputs.Output(Path(sys.argv[2]), overwrite=True))
    except OutputUnwritable as error:
        print(error)
print(sorted(file.name for file in Path(sys.argv[2]).parent.iterdir()))
"""


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson", ".csv"])
@pytest.mark.parametrize("room", ["4k", "24k"])
def test_a_disk_that_fills_while_writing_leaves_no_half_file_and_the_old_one(
    bench, tmp_path: Path, suffix: str, room: str
) -> None:
    """The look beforehand is switched off, as when another program takes the room meanwhile."""
    bench.assess(
        write_scene(tmp_path / "s.tif", np.random.default_rng(0).integers(9, 99, (2560, 2560)).astype("uint8"))
    )
    folder = tmp_path / "small"
    folder.mkdir()
    out = folder / f"out[1]{suffix}"
    fill = f'echo old > "{out}"; exec "$@"'
    program = [sys.executable, "-c", WRITE_ON_A_FULL_DISK, bench.store_url, str(out)]
    ran = run(small_disk(folder, "28k" if room == "24k" else "8k", ["sh", "-c", fill, "sh", *program]), bench)
    said, left = ran.stdout.splitlines()
    assert said.startswith(f"{out} cannot be written ("), ran.stderr
    assert "free space or give another --out" in said
    assert left == f"['out[1]{suffix}']"
    assert ran.stderr == ""


def test_a_scenes_folder_that_cannot_be_written_is_refused_before_the_work(bench, tmp_path: Path) -> None:
    bench.scenes = Path("/proc/scenes")
    with pytest.raises(OutputUnwritable, match=r"cannot take the scene's overview .* set ATALAYA_SCENES"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()))
    assert bench.store.assessments()[0].tiles_done == 0


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match=r"MB left and out.csv may need [\d,.]+ MB; free space"):
        check_output(Output(tmp_path / "out.csv"), tiles=10**14)
