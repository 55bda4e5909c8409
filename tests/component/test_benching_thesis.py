"""The thesis' tables made in small, by both engines: fits, inferences that the servers counted too, every path."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(900)
PATHS = {"predict()", "model(x)", "tf.function of the Keras model", "SavedModel signature (tf.function), as served"}


def write_tiles(file: Path, count: int = 24) -> Path:
    """Bright ones are damaged, no two touch."""
    random = np.random.default_rng(3)
    damaged = np.arange(count, dtype=np.uint8) % 2
    tiles = random.integers(0, 120, (count, 128, 128)) + 120 * damaged[:, None, None]
    np.savez(file, tiles=tiles.astype(np.uint8), damaged=damaged)
    return file


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thesis")
    tiles = write_tiles(folder / "tiles.npz")
    flags = "--model thesis2020 --epochs 1,2 --inferences 32 --cores 1 --protocol v2-grpc,tfs-rest --rounds 2"
    command = [sys.executable, "-m", "atalaya", "bench", "thesis", "--tiles", str(tiles), *flags.split()]
    command += ["--path-seconds", "0.01", "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert "## 8." in done.stdout
    return folder / "out"


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "thesis.json").read_text())
    return found


def test_each_number_of_epochs_is_a_fit_of_its_own_judged_on_other_tiles(report: dict[str, Any]) -> None:
    assert [(fit["epochs"], fit["seed"]) for fit in report["fits"]] == [(1, 0), (2, 1)]
    for fit in report["fits"]:
        assert fit["learnt"] + fit["judged"] == 24
        assert 0 <= fit["right"] <= fit["judged"] < fit["learnt"]
        assert fit["seconds"] > 0


def test_both_engines_answer_as_many_images_as_their_servers_counted(report: dict[str, Any]) -> None:
    answered: Counter[str] = Counter()
    for one in report["served"]:
        images = one["right"] + one["wrong"]
        assert (one["errors"], images, one["inference_count"]) == (0, 8, 8)
        assert one["total"]["mean_ms"] * images / 1000 > one["inference_seconds"] / 8
        answered[one["engine"]] += images
    assert answered == {"openvino": 32, "tensorflow": 32}
    assert {(one["protocol"], one["cores"]) for one in report["served"]} == {("v2-grpc", 1), ("tfs-rest", 1)}


def test_answers_to_tiles_that_the_fit_did_not_learn_are_counted_apart(report: dict[str, Any]) -> None:
    unseen = sum(one["unseen"] for one in report["served"])
    assert 0 < unseen < 64


def test_every_path_into_tensorflow_is_named(report: dict[str, Any]) -> None:
    assert {one["path"] for one in report["paths"] if one["engine"] == "tensorflow"} == PATHS
    assert any(one["engine"] == "openvino" for one in report["paths"])
    assert all(one["latency"]["count"] >= 3 for one in report["paths"])


def test_the_report_is_complete_with_its_machine_and_charts(report: dict[str, Any], out: Path) -> None:
    assert report["complete"]
    assert {"tensorflow", "openvino"} <= set(report["about"]["versions"])
    assert {"thesis.md", "thesis-total.png", "thesis-epochs.png"} <= {file.name for file in out.iterdir()}
