"""An assessment's identity moves with everything that changes an answer, and with nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from atalaya_serving.scoring.digests import assessment_id, file_digest
from atalaya_serving.scoring.errors import SceneUnreadable
from atalaya_serving.scoring.planning import SceneChoice, parameters
from atalaya_spec.manifest import load_manifest
from brightness_model import write_brightness_model


@pytest.fixture
def manifest(tmp_path: Path):
    return load_manifest(write_brightness_model(tmp_path))


@pytest.fixture
def choice(tmp_path: Path) -> SceneChoice:
    (tmp_path / "a.geojson").write_text("a")
    (tmp_path / "b.geojson").write_text("b")
    return SceneChoice(tmp_path / "scene.tif")


def identity(choice: SceneChoice, manifest) -> str:
    return assessment_id("sha256:scene", manifest.digest, parameters(choice, manifest))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"scale": (0.0, 2000.0)}, id="scale"),
        pytest.param({"bands": (1,)}, id="bands"),
        pytest.param({"area": "a.geojson"}, id="area"),
        pytest.param({"mask": "a.geojson"}, id="mask"),
    ],
)
def test_every_option_that_changes_an_answer_makes_another_assessment(change, choice, manifest, tmp_path) -> None:
    change = {name: tmp_path / value if isinstance(value, str) else value for name, value in change.items()}
    assert identity(replace(choice, **change), manifest) != identity(choice, manifest)


def test_another_shape_of_the_area_makes_another_assessment(choice, manifest, tmp_path) -> None:
    first = identity(replace(choice, area=tmp_path / "a.geojson"), manifest)
    assert identity(replace(choice, area=tmp_path / "b.geojson"), manifest) != first
    (tmp_path / "b.geojson").write_text("a")
    assert identity(replace(choice, area=tmp_path / "b.geojson"), manifest) == first


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("output", "threshold", 0.6),
        ("output", "min_valid_share", 0.9),
        ("input", "gsd_m", 0.3),
        ("input", "tile_size_px", 64),
        ("input", "stretch_percentiles", (1.0, 99.0)),
        ("input", "bands", ("red", "green", "blue")),
        ("input", "value_range", (0.0, 1.0)),
    ],
)
def test_every_field_of_the_manifest_that_changes_an_answer_does_too(part, field, value, choice, manifest) -> None:
    changed = replace(manifest, **{part: replace(getattr(manifest, part), **{field: value})})
    assert identity(choice, changed) != identity(choice, manifest)


def test_another_scene_or_model_is_another_assessment(choice, manifest) -> None:
    told = parameters(choice, manifest)
    ids = {assessment_id(scene, model, told) for scene in "ab" for model in "cd"}
    assert len(ids) == 4


def test_the_name_of_the_file_does_not_matter(choice, manifest, tmp_path) -> None:
    assert identity(replace(choice, path=tmp_path / "renamed.tif"), manifest) == identity(choice, manifest)


def test_a_files_digest_is_what_sha256sum_prints(tmp_path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    assert file_digest(file) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_said(tmp_path) -> None:
    with pytest.raises(SceneUnreadable, match="No such file or directory"):
        file_digest(tmp_path / "nothing")
