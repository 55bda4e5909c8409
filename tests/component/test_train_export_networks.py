"""What networks and fits promise: symmetry by construction, the thesis' layers, repeatable and resumable fits."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from atalaya_serving.training import export, networks
from atalaya_serving.training.augmentation import Augmentation, apply, draw
from atalaya_serving.training.calibration import Platt
from atalaya_serving.training.dataset import Examples
from atalaya_serving.training.evaluate import probabilities
from atalaya_serving.training.fit import CHECKPOINT_EVERY_EPOCHS, FitPlan, fit, is_fitted
from atalaya_serving.training.golden import golden_tiles
from atalaya_serving.training.recipe import PLANS, predict_logits

EXAMPLES = Examples(golden_tiles(), (np.arange(8) % 2).astype(np.uint8))
TINY = FitPlan("symmetric", epochs=12, batch_size=4, learning_rate=0.01, cosine=True, augmentation=Augmentation())
STILL = Augmentation(0, 1, 1, 0, 1, 0, 0, 0, 0, 0)


def eight_views(tiles: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(tiles[:, :, ::step], turn, (1, 2)) for turn in range(4) for step in (1, -1)]


def shaken(network: str) -> Any:
    model = networks.build(network)
    random = np.random.default_rng(0)
    for weight in model.weights:  # not the tidy values of a fresh network
        weight.assign(weight + random.uniform(0, 0.1, weight.shape))
    return model


def answers_to_views(network: str) -> np.ndarray:
    model = shaken(network)
    return np.stack([predict_logits(model, np.ascontiguousarray(view)) for view in eight_views(EXAMPLES.tiles)])


def test_the_symmetric_network_answers_alike_for_all_eight_views() -> None:
    answers = answers_to_views("symmetric")
    assert np.ptp(answers, axis=1).min() > 0.01 * np.abs(answers).max(), "all tiles alike would prove nothing"
    assert np.ptp(answers, axis=0).max() < 1e-4 * np.abs(answers).max()


def test_the_symmetric_network_is_kept_and_exported_as_it_is(tmp_path: Path) -> None:
    model = shaken("symmetric")
    logits = predict_logits(model, EXAMPLES.tiles)
    calibration = Platt(2 / float(np.ptp(logits)), -2 * float(logits.mean()) / float(np.ptp(logits)))
    wanted = calibration(logits)
    assert np.ptp(wanted) > 0.3, "tiles alike would prove nothing"
    served = export.serving_model(model, calibration)
    served.save(tmp_path / "model.keras")
    export.save_saved_model(served, tmp_path / "saved")
    graph = export.with_calibration(export.logit_graph(model), calibration)
    export.save_ir(graph, tmp_path / "fp32", fp16=False)
    export.save_ir(graph, tmp_path / "fp16", fp16=True)
    kinds = {"model.keras": 1e-4, "saved": 1e-4, "fp32/model.xml": 1e-3, "fp16/model.xml": 0.01}
    for name, tolerance in kinds.items():
        assert probabilities(tmp_path / name, EXAMPLES.tiles) == pytest.approx(wanted, abs=tolerance), name


def test_the_baseline_tells_views_apart_so_the_symmetry_is_the_networks() -> None:
    answers = answers_to_views("thesis2020")
    assert np.ptp(answers, axis=0).max() > 1e-3 * np.abs(answers).max()


def test_the_baseline_is_the_network_of_the_thesis() -> None:
    layers = [layer.__class__.__name__ for layer in networks.build("thesis2020").layers[2:]]
    block = ["Conv2D", "MaxPooling2D", "Dropout"]
    assert layers == [*block * 3, "Conv2D", "Flatten", "Dense", "Dense"]
    assert networks.build("thesis2020").count_params() == 115_649
    plan = PLANS["thesis2020"]
    assert (plan.epochs, plan.batch_size, plan.learning_rate, plan.augmentation) == (175, 256, 0.0008, None)


def test_every_network_has_a_plan() -> None:
    assert PLANS.keys() == networks.NETWORKS.keys()
    assert all(plan.network == name for name, plan in PLANS.items())


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    one, same, other = (
        predict_logits(fit(TINY, EXAMPLES, seed, tmp_path / name, lambda: None), EXAMPLES.tiles)
        for seed, name in ((5, "one"), (5, "same"), (6, "other"))
    )
    assert same == pytest.approx(one, abs=1e-3)
    assert np.abs(other - one).max() > 1e-2


class Stopped(Exception):
    pass


def test_a_stopped_fit_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = predict_logits(fit(TINY, EXAMPLES, 1, tmp_path / "whole", lambda: None), EXAMPLES.tiles)
    epochs = 0

    def stop_late() -> None:
        nonlocal epochs
        epochs += 1
        if epochs == CHECKPOINT_EVERY_EPOCHS + 1:
            raise Stopped

    with pytest.raises(Stopped):
        fit(TINY, EXAMPLES, 1, tmp_path / "cut", stop_late)
    assert not is_fitted(tmp_path / "cut")
    ticks: list[int] = []
    resumed = fit(TINY, EXAMPLES, 1, tmp_path / "cut", lambda: ticks.append(1))
    assert len(ticks) == TINY.epochs
    assert is_fitted(tmp_path / "cut")
    assert predict_logits(resumed, EXAMPLES.tiles) == pytest.approx(whole, abs=1e-3)


def test_a_taught_network_learns_what_its_teachers_say_and_not_the_labels(tmp_path: Path) -> None:
    contrary = Examples(EXAMPLES.tiles, 1 - EXAMPLES.labels)
    teacher = replace(TINY, epochs=60, augmentation=STILL)
    fit(teacher, contrary, 3, tmp_path / "taught" / "teacher-0", lambda: None)
    taught = fit(replace(teacher, teachers=(teacher,)), EXAMPLES, 4, tmp_path / "taught", lambda: None)
    answers = predict_logits(taught, EXAMPLES.tiles) > 0
    assert (answers == contrary.labels).mean() > 0.8


def test_a_stopped_fit_with_teachers_goes_on_and_tells_every_epoch(tmp_path: Path) -> None:
    plan = replace(TINY, teachers=(replace(TINY, network="compact"), TINY))
    whole = predict_logits(fit(plan, EXAMPLES, 1, tmp_path / "whole", lambda: None), EXAMPLES.tiles)
    epochs = 0

    def stop_in_the_second_teacher() -> None:
        nonlocal epochs
        epochs += 1
        if epochs == TINY.epochs + 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit(plan, EXAMPLES, 1, tmp_path / "cut", stop_in_the_second_teacher)
    ticks: list[int] = []
    resumed = fit(plan, EXAMPLES, 1, tmp_path / "cut", lambda: ticks.append(1))
    assert len(ticks) == plan.epochs_in_all == 3 * TINY.epochs
    assert predict_logits(resumed, EXAMPLES.tiles) == pytest.approx(whole, abs=1e-3)


def test_killed_training_leaves_no_worker_behind(tmp_path: Path) -> None:
    tiles = tmp_path / "tiles.npz"
    np.savez(tiles, tiles=np.concatenate([EXAMPLES.tiles] * 2)[..., 0], damaged=np.tile(EXAMPLES.labels, 2))
    command = [sys.executable, "-m", "atalaya", "train", str(tiles), "--out", str(tmp_path / "run"), "--jobs", "2"]
    with subprocess.Popen([*command, "--folds", "2"], stderr=subprocess.DEVNULL) as training:
        workers: list[psutil.Process] = []
        while len(workers) < 2:
            assert training.poll() is None
            workers = [
                child for child in psutil.Process(training.pid).children() if "spawn_main" in str(child.cmdline())
            ]
            time.sleep(0.2)
        training.kill()
    _, left = psutil.wait_procs(workers, timeout=60)
    assert not left


@pytest.mark.parametrize("has_begun", [False, True], ids=["while workers start", "while they fit"])
def test_ctrl_c_ends_training_and_its_workers_at_once_without_a_trace(tmp_path: Path, has_begun: bool) -> None:
    """A terminal sends it to all of them. More fits wait than could end in the time."""
    tiles, run = tmp_path / "tiles.npz", tmp_path / "run"
    np.savez(tiles, tiles=np.concatenate([EXAMPLES.tiles] * 2)[..., 0], damaged=np.tile(EXAMPLES.labels, 2))
    command = [sys.executable, "-m", "atalaya", "train", str(tiles), "--out", str(run), "--jobs", "2", "--folds", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as training:
        workers: list[psutil.Process] = []
        while len(workers) < 2 or (has_begun and not list(run.glob("folds/*/*"))):
            assert training.poll() is None
            workers = [
                child for child in psutil.Process(training.pid).children() if "spawn_main" in str(child.cmdline())
            ]
            time.sleep(0.1)
        os.killpg(training.pid, signal.SIGINT)
        try:
            _, told = training.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(training.pid, signal.SIGKILL)
    assert training.returncode == 130
    assert "Traceback" not in told, told
    _, left = psutil.wait_procs(workers, timeout=60)
    assert not left


def test_no_augmentation_leaves_a_tile_one_of_its_eight_views() -> None:
    drawn = draw(STILL, np.random.default_rng(0), 8, 128)
    pixels, labels = apply(EXAMPLES.tiles, np.arange(8, dtype=np.float32)[:, None], drawn)
    views = np.stack(eight_views(EXAMPLES.tiles)).astype(np.float32)
    differences = np.abs(views - np.asarray(pixels)[None]).mean(axis=(2, 3, 4)).min(axis=0)
    assert differences.max() < 0.01
    assert np.asarray(labels)[:, 0].tolist() == list(range(8))


def test_augmentation_stays_within_pixel_values_and_repeats_with_its_seed() -> None:
    strong = replace(Augmentation(), contrast=3.0, brightness=120.0, noise=80.0)
    one, again = (
        np.asarray(apply(EXAMPLES.tiles, EXAMPLES.labels[:, None].astype(np.float32), drawn)[0])
        for drawn in (draw(strong, np.random.default_rng(4), 8, 128), draw(strong, np.random.default_rng(4), 8, 128))
    )
    assert one.min() >= 0
    assert one.max() <= 255
    assert (one == again).all()
    assert np.abs(one - EXAMPLES.tiles).mean() > 5
