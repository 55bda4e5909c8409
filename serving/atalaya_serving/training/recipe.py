"""Which plan fits which network, and how a recipe is judged: repeated, stratified, grouped cross-validation.

Fits are independent of each other, so they run side by side in worker processes with one thread each, which gives more
steps a second than one process with many threads, and the same numbers on any number of cores.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training.augmentation import Augmentation
from atalaya_serving.training.dataset import Examples, touching_groups
from atalaya_serving.training.errors import InvalidTiles
from atalaya_serving.training.fit import FitPlan, fit, is_fitted, load_fitted
from atalaya_serving.training.networks import Model
from atalaya_serving.training.quiet import import_tensorflow_quietly

UNTAUGHT = FitPlan(
    network="symmetric",
    epochs=240,
    batch_size=16,
    learning_rate=0.004,
    weight_decay=0.02,
    label_smoothing=0.05,
    cosine=True,
    augmentation=Augmentation(),
)
COMPACT = replace(UNTAUGHT, network="compact", epochs=100, batch_size=32, learning_rate=0.003)
PLANS = {
    "symmetric": replace(UNTAUGHT, label_smoothing=0.0, teachers=(UNTAUGHT, COMPACT, COMPACT)),
    "compact": COMPACT,
    "thesis2020": FitPlan(network="thesis2020", epochs=175, batch_size=256, learning_rate=0.0008),
}
PREDICT_BATCH = 32


@dataclass(frozen=True)
class Split:
    """One fold of one repeat: the indices it learns from and those it is judged on."""

    repeat: int
    fold: int
    learn: NDArray[np.int64]
    judge: NDArray[np.int64]

    @property
    def folder_name(self) -> str:
        """Where the fold's fit lies below a run's `folds/`."""
        return f"repeat-{self.repeat}-fold-{self.fold}"


@dataclass(frozen=True)
class FitTask:
    """One fit as a worker process gets it."""

    plan: FitPlan
    examples: Examples
    seed: int
    folder: Path


def splits(examples: Examples, folds: int, repeats: int, seed: int) -> list[Split]:
    """Stratified folds in which tiles that touch on the ground stay together. Raises InvalidTiles for too few tiles."""
    from sklearn.model_selection import StratifiedGroupKFold

    smallest = int(min(np.bincount(examples.labels, minlength=2)))
    if folds < 2 or smallest < folds:
        raise InvalidTiles(f"{smallest} tiles of the rarer class cannot make {folds} folds; use 2 to {smallest} folds.")
    groups = touching_groups(examples.tiles)
    found = []
    for repeat in range(repeats):
        dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
        for fold, (learn, judge) in enumerate(dealer.split(groups, examples.labels, groups)):
            if len(np.unique(examples.labels[learn])) < 2:
                raise InvalidTiles("touching tiles leave a fold with one class only; use fewer folds.")
            found.append(Split(repeat, fold, learn, judge))
    return found


def run_fits(tasks: Sequence[FitTask], jobs: int, on_epoch: Callable[[], None]) -> None:
    """Do every fit that is not done yet; `on_epoch` is called once for each epoch of each fit."""
    waiting = []
    for task in tasks:
        if not is_fitted(task.folder):
            waiting.append(task)
            continue
        for _ in range(task.plan.epochs_in_all):
            on_epoch()
    if jobs == 1 or len(waiting) < 2:
        for task in waiting:
            fit(task.plan, task.examples, task.seed, task.folder, on_epoch)
        return
    spawn = multiprocessing.get_context("spawn")
    ticks: Any = spawn.SimpleQueue()
    reader = threading.Thread(target=_relay, args=(ticks, on_epoch), daemon=True)
    reader.start()
    before = multiprocessing.active_children()
    with ProcessPoolExecutor(min(jobs, len(waiting)), spawn, _start_worker, (ticks,)) as pool:
        try:
            with _interrupts_kept_from_children():
                begun = [pool.submit(_fit_in_worker, task) for task in waiting]
            for done in begun:
                done.result()
        except KeyboardInterrupt:  # what is fitting would go on to its end, and then all that waits
            for worker in set(multiprocessing.active_children()) - set(before):
                worker.kill()
            raise
    ticks.put(None)
    reader.join()


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """A terminal sends ctrl-C to workers too, and each would print where it was. A process inherits what is blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ticks: Any = None


def _start_worker(ticks: Any) -> None:
    global _ticks  # noqa: PLW0603 - a queue reaches a pool's workers only through their initializer
    _ticks = ticks
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_tensorflow_quietly()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a killed run must not go on fitting unseen


def _fit_in_worker(task: FitTask) -> None:
    fit(task.plan, task.examples, task.seed, task.folder, lambda: _ticks.put(1))


def _relay(ticks: Any, on_epoch: Callable[[], None]) -> None:
    while ticks.get() is not None:
        on_epoch()


def predict_logits(model: Model, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits [n] of tiles, in batches."""
    parts = [
        np.asarray(model(tiles[start : start + PREDICT_BATCH].astype(np.float32), training=False))[:, 0]
        for start in range(0, len(tiles), PREDICT_BATCH)
    ]
    return np.concatenate(parts).astype(np.float64)


def out_of_fold(network: str, examples: Examples, dealt: Sequence[Split], folds_folder: Path) -> NDArray[np.float64]:
    """Logits [repeats, n]: each tile judged, once a repeat, by a model that saw neither it nor a tile touching it."""
    table = np.full((1 + max(split.repeat for split in dealt), len(examples)), np.nan)
    for split in dealt:
        model = load_fitted(network, folds_folder / split.folder_name)
        table[split.repeat, split.judge] = predict_logits(model, examples.tiles[split.judge])
    return table
