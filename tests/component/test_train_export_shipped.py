"""The models that are committed: manifests that hold, digests that match, golden answers that come again."""

from pathlib import Path

import numpy as np
import pytest

from atalaya_serving.paths import shipped_repository
from atalaya_serving.training.dataset import load_examples
from atalaya_serving.training.evaluate import evaluate, model_file, probabilities
from atalaya_spec.manifest import find_version, load_manifest, version_digest

MODELS = {"haiti-damage": "fp16", "haiti-damage-fp32": "fp32", "haiti-damage-int8": "int8", "haiti-damage-tf": "fp32"}


@pytest.mark.parametrize(("name", "precision"), MODELS.items())
def test_a_shipped_manifest_tells_the_truth_of_its_files(name: str, precision: str) -> None:
    folder = find_version(shipped_repository(), name)
    manifest = load_manifest(folder)
    assert (manifest.name, manifest.version, manifest.precision) == (name, int(folder.name), precision)
    assert manifest.digest == version_digest(folder)
    assert manifest.output.labels == ("not_damaged", "damaged")
    assert manifest.input.tile_size_m == 64
    assert manifest.calibration is not None
    assert len(manifest.calibration.slopes) == 200
    assert (folder.parent / "README.md").is_file()


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_answers_its_golden_requests(name: str) -> None:
    folder = find_version(shipped_repository(), name)
    golden = load_manifest(folder).golden
    assert golden is not None
    with np.load(folder / golden.file) as requests:
        answers = probabilities(model_file(folder), requests["inputs"])
        assert np.ptp(requests["outputs"]) > 0.3, "answers that are all alike prove nothing"
        assert answers == pytest.approx(requests["outputs"][:, 0], abs=golden.tolerance)


def test_shipped_models_are_small_enough_to_live_in_the_repository() -> None:
    for name in MODELS:
        folder = find_version(shipped_repository(), name)
        assert sum(file.stat().st_size for file in folder.rglob("*")) < 5_000_000, name


def test_the_shipped_models_are_calibrated_and_int8_decides_as_fp32_does() -> None:
    measured = load_manifest(find_version(shipped_repository(), "haiti-damage")).measured["crossValidated"]
    assert measured["brier"]["value"] <= 0.06
    assert measured["calibration_slope"]["low"] < 1 < measured["calibration_slope"]["high"]
    int8 = load_manifest(find_version(shipped_repository(), "haiti-damage-int8")).measured
    assert int8["decisionsFlippedAgainstFp32"] <= 0.01


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_knows_the_tiles_it_was_trained_on(name: str, haiti_data: Path) -> None:
    scores = evaluate(find_version(shipped_repository(), name), load_examples(haiti_data / "haiti-tiles.npz"))
    assert scores.count == 181
    assert scores.accuracy.value > 0.95
    assert scores.auroc.value > 0.985
