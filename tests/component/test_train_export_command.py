"""`atalaya train`, `export` and `evaluate` from the command line, on a few synthetic tiles."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from atalaya.cli import main
from atalaya_serving.training.evaluate import probabilities
from atalaya_serving.training.golden import golden_tiles
from atalaya_spec.manifest import load_manifest, version_digest

FORMATS = {"demo": "model.xml", "demo-fp32": "model.xml", "demo-int8": "model.xml", "demo-tf": "saved_model.pb"}
# The quick network: what `symmetric` promises, and that it is exported as it is, is in test_train_export_networks.py.
TRAIN = ("--network", "compact", "--epochs", "2", "--folds", "2", "--repeats", "1", "--jobs", "1")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen synthetic tiles: smooth ones are whole, rough ones damaged."""
    file = tmp_path_factory.mktemp("tiles") / "tiles.npz"
    found = np.concatenate([golden_tiles(seed=1), golden_tiles(seed=2)])[..., 0]
    np.savez(file, tiles=found, damaged=np.tile([0, 0, 0, 0, 1, 1, 1, 1], 2).astype(np.uint8))
    return file


@pytest.fixture(scope="module")
def run(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(tiles), "--out", str(folder), *TRAIN]) == 0
    return folder


@pytest.fixture(scope="module")
def repository(run: Path, tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in all formats."""
    root = tmp_path_factory.mktemp("repository")
    arguments = ["export", str(run), "--tiles", str(tiles), "--repository", str(root), "--name", "demo"]
    assert main([*arguments, "--baseline", str(run)]) == 0
    return root


def test_a_run_holds_the_model_the_scores_and_the_curves(run: Path) -> None:
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (run / "reliability.svg").read_text()
    scores = json.loads((run / "report.json").read_text())["scores"]
    assert scores["count"] == 16
    assert 0 <= scores["auroc"]["low"] <= scores["auroc"]["value"] <= scores["auroc"]["high"] <= 1
    with np.load(run / "out-of-fold.npz") as kept:
        assert np.isfinite(kept["logits"]).all()


def test_side_by_side_fits_give_the_same_run(run: Path, tiles: Path, tmp_path: Path) -> None:
    arguments = [*TRAIN[:-1], "2"]
    assert main(["train", str(tiles), "--out", str(tmp_path / "again"), *arguments]) == 0
    with np.load(run / "out-of-fold.npz") as one, np.load(tmp_path / "again" / "out-of-fold.npz") as other:
        assert other["logits"] == pytest.approx(one["logits"], abs=1e-2)


def test_a_finished_run_resumes_to_the_same_scores_without_fitting(
    run: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "final" / "weights.npz").stat().st_mtime_ns
    assert main(["train", str(tiles), "--out", str(run), *TRAIN, "--resume", "--json"]) == 0
    scores = json.loads((run / "report.json").read_text())["scores"]
    assert json.loads(capsys.readouterr().out)["brier"] == scores["brier"]
    assert (run / "final" / "weights.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "go on with --resume, or begin anew with --overwrite", id="exists"),
        pytest.param(["--resume", "--seed", "9"], "begun with another seed", id="resumed otherwise"),
        pytest.param(["--network", "resnet"], "there are: symmetric, compact, thesis2020", id="unknown network"),
        pytest.param(["--folds", "1"], "--folds is 1; it must be at least 2", id="one fold"),
        pytest.param(["--epochs", "0"], "--epochs is 0; it must be at least 1", id="no epochs"),
        pytest.param(["--seed", "-1"], "--seed is -1", id="negative seed"),
    ],
)
def test_wrong_use_of_train_is_told_in_one_line(
    run: Path, tiles: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tiles), "--out", str(run), *TRAIN, *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_overwrite_empties_a_run_but_no_other_folder(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("kept")
    assert main(["train", str(tiles), "--out", str(tmp_path), *TRAIN, "--overwrite"]) == 2
    assert "is not a training run" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "kept"


@pytest.mark.parametrize(("name", "file"), FORMATS.items())
def test_each_format_has_a_valid_manifest_and_answers_its_golden_requests(
    repository: Path, name: str, file: str
) -> None:
    folder = repository / name / "1"
    manifest = load_manifest(folder)
    assert (manifest.name, manifest.version, manifest.digest) == (name, 1, version_digest(folder))
    assert manifest.calibration is not None
    assert len(manifest.calibration.slopes) == 200
    model = folder if file == "saved_model.pb" else folder / file
    assert manifest.golden is not None
    with np.load(folder / manifest.golden.file) as golden:
        answers = probabilities(model, golden["inputs"])
        assert answers == pytest.approx(golden["outputs"][:, 0], abs=1e-3)


def test_all_formats_of_full_precision_agree_and_the_others_are_near(repository: Path, run: Path) -> None:
    keras = probabilities(run / "model.keras", golden_tiles())
    tolerances = {"demo": 0.01, "demo-fp32": 1e-4, "demo-int8": 0.3}  # int8 has its own calibration
    for name, tolerance in tolerances.items():
        found = probabilities(repository / name / "1" / "model.xml", golden_tiles())
        assert found == pytest.approx(keras, abs=tolerance), name
    assert probabilities(repository / "demo-tf" / "1", golden_tiles()) == pytest.approx(keras, abs=1e-5)


def test_a_served_graph_takes_raw_bytes_and_any_batch(repository: Path) -> None:
    import openvino as ov

    model = ov.Core().read_model(repository / "demo" / "1" / "model.xml")
    (taken,), (given,) = model.inputs, model.outputs
    assert (taken.any_name, taken.element_type.get_type_name(), str(taken.partial_shape)) == (
        "tiles",
        "u8",
        "[?,128,128,1]",
    )
    assert (given.any_name, given.element_type.get_type_name(), str(given.partial_shape)) == (
        "probability",
        "f32",
        "[?,1]",
    )


def test_the_card_tells_figures_limits_and_how_to_make_it_again(repository: Path) -> None:
    card = (repository / "demo" / "README.md").read_text()
    for told in ("AUROC", "thesis2020 (baseline)", "Limits", "atalaya train", "reliability.svg", "Licence of the data"):
        assert told in card
    assert (repository / "demo" / "reliability.svg").is_file()
    assert "(../demo/README.md)" in (repository / "demo-int8" / "README.md").read_text()


@pytest.mark.parametrize("model", ["demo", "demo/1", "demo/1/model.xml", "demo-int8", "demo-tf/1", "run", "run/keras"])
def test_evaluate_measures_every_kind_of_model(
    repository: Path, run: Path, tiles: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = {"run": run, "run/keras": run / "model.keras"}.get(model, repository / model)
    assert main(["evaluate", str(path), str(tiles), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["count"] == 16
    assert {"accuracy", "auroc", "brier", "calibration_slope", "calibration_intercept", "reliability"} <= scores.keys()


def test_evaluate_prints_tables_for_people(repository: Path, tiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(repository / "demo"), str(tiles)]) == 0
    printed = capsys.readouterr().out
    assert "| Brier score |" in printed
    assert re.search(r"\| 0\.\d to \d\.\d \| \d+ \|", printed), "no row of the reliability table"


def test_models_that_cannot_be_judged_are_refused_in_one_line(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.xml", "model.onnx", "model.keras"):
        (tmp_path / name).write_text("not a model")
    (tmp_path / "empty").mkdir()
    for path in ("nothing.xml", "model.xml", "model.onnx", "model.keras", "empty"):
        assert main(["evaluate", str(tmp_path / path), str(tiles)]) == 2, path
        told = capsys.readouterr().err
        assert path in told
        assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "is there already", id="exists"),
        pytest.param(["--formats", "ir-fp8"], "there are: ir-fp16, ir-fp32, ir-int8, saved-model", id="unknown format"),
        pytest.param(["--version", "0"], "--version is 0", id="version 0"),
        pytest.param(["--data", "none.yaml"], "none.yaml does not describe training data", id="no data note"),
    ],
)
def test_wrong_use_of_export_is_told_in_one_line(
    run: Path, tiles: Path, repository: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(run), "--tiles", str(tiles), "--repository", str(repository), "--name", "demo"]
    assert main([*command, *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_run_is_exported_only_with_its_own_tiles(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "t.npz", tiles=golden_tiles()[..., 0], damaged=np.arange(8) % 2)
    assert main(["export", str(run), "--tiles", str(tmp_path / "t.npz"), "--repository", str(tmp_path)]) == 2
    assert "was trained on other tiles (tiles.npz)" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_not_exported(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--tiles", str(tiles), "--repository", str(tmp_path)]) == 2
    assert "is not a training run" in capsys.readouterr().err
