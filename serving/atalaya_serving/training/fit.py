"""One fit of one network: seeded, resumable, epoch by epoch. Nothing here knows folds or calibration.

Every random number of an epoch comes from (seed, epoch), so a fit that was stopped goes on as if it had not been.

A plan may name teachers: they are fitted first, to the same tiles, and the network then learns what they say together
of each augmented view instead of the label (distillation; Hinton et al. 2015, with many different views as by Beyer et
al. 2022). The network that is served costs no more for it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from atalaya_serving.training import augmentation, networks
from atalaya_serving.training.augmentation import Augmentation
from atalaya_serving.training.dataset import Examples
from atalaya_serving.training.networks import TILE_SIZE, Model

CHECKPOINT_EVERY_EPOCHS = 10
HISTORY_FILE = "history.json"
WEIGHTS_FILE = "weights.npz"
TEACHER_SEED_STEP = 100_000
_CHECKPOINT_FILE = "checkpoint.npz"


@dataclass(frozen=True)
class FitPlan:
    """How a network is fitted. `augmentation` None shows the tiles as they are; `cosine` lets the rate fall to 0.

    With `teachers`, their mean logit is learned in place of the label.
    """

    network: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    cosine: bool = False
    augmentation: Augmentation | None = None
    teachers: tuple["FitPlan", ...] = ()

    @property
    def epochs_in_all(self) -> int:
        """Epochs of this fit and of its teachers' fits."""
        return self.epochs + sum(teacher.epochs_in_all for teacher in self.teachers)

    def with_epochs(self, epochs: int) -> "FitPlan":
        """The plan with another number of epochs, and its teachers' in proportion."""
        teachers = tuple(one.with_epochs(max(1, round(one.epochs * epochs / self.epochs))) for one in self.teachers)
        return replace(self, epochs=epochs, teachers=teachers)


def fit(plan: FitPlan, examples: Examples, seed: int, folder: Path, on_epoch: Callable[[], None]) -> Model:
    """Fit `plan` to `examples`, or go on where `folder` says an earlier call stopped; gives the logit model.

    `folder` then holds the weights and the loss of each epoch; `on_epoch` is called after each epoch, also for those
    that were done before.
    """
    import keras

    teachers = _teachers(plan, examples, seed, folder, on_epoch)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    model = networks.build(plan.network)
    trainer = _Trainer(plan, model, examples, teachers)
    losses = _restore(folder, trainer)
    for _ in losses:
        on_epoch()
    for epoch in range(len(losses), plan.epochs):
        losses.append(trainer.epoch(np.random.default_rng([seed, epoch])))
        if (epoch + 1) % CHECKPOINT_EVERY_EPOCHS == 0:
            _checkpoint(folder, trainer, losses)
        on_epoch()
    np.savez(folder / WEIGHTS_FILE, *[weight.numpy() for weight in model.weights])
    partial = folder / "history.partial.json"  # the history says that the fit is done, so it comes whole or not at all
    partial.write_text(json.dumps(losses), encoding="utf-8")
    partial.replace(folder / HISTORY_FILE)
    (folder / _CHECKPOINT_FILE).unlink(missing_ok=True)
    return model


def _teachers(
    plan: FitPlan, examples: Examples, seed: int, folder: Path, on_epoch: Callable[[], None]
) -> tuple[Model, ...]:
    models = []
    for number, teacher in enumerate(plan.teachers):
        own = folder / f"teacher-{number}"
        if is_fitted(own):
            for _ in range(teacher.epochs_in_all):
                on_epoch()
            models.append(load_fitted(teacher.network, own))
        else:
            models.append(fit(teacher, examples, seed + TEACHER_SEED_STEP * (number + 1), own, on_epoch))
    return tuple(models)


def load_fitted(network: str, folder: Path) -> Model:
    """The logit model of a fit that is done."""
    model = networks.build(network)
    with np.load(folder / WEIGHTS_FILE) as saved:
        for index, weight in enumerate(model.weights):
            weight.assign(saved[f"arr_{index}"])
    return model


def is_fitted(folder: Path) -> bool:
    """Whether the fit in `folder` is done."""
    return (folder / HISTORY_FILE).is_file()


class _Trainer:
    """The network, its optimiser and one compiled step."""

    def __init__(self, plan: FitPlan, model: Model, examples: Examples, teachers: tuple[Model, ...]) -> None:
        import tensorflow as tf

        self.plan, self.model, self.teachers, self.count = plan, model, teachers, len(examples)
        self.batch = min(plan.batch_size, self.count)
        self.steps = max(1, round(self.count / self.batch))
        self.optimizer = self._optimizer()
        self.optimizer.build(model.trainable_variables)
        self._tiles = tf.constant(examples.tiles)
        self._labels = tf.constant(examples.labels.astype(np.float32)[:, None])
        self._step = tf.function(self._one_step, reduce_retracing=True)

    @property
    def variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]

    def _optimizer(self) -> Any:
        import keras

        rate: Any = self.plan.learning_rate
        if self.plan.cosine:
            rate = keras.optimizers.schedules.CosineDecay(rate, self.plan.epochs * self.steps)
        if self.plan.weight_decay:
            return keras.optimizers.AdamW(rate, weight_decay=self.plan.weight_decay)
        return keras.optimizers.Adam(rate)

    def epoch(self, random: np.random.Generator) -> float:
        """Show every tile about once; gives the mean loss."""
        import tensorflow as tf

        order = np.resize(random.permutation(self.count), self.steps * self.batch)
        losses = []
        for index in np.split(order, self.steps):
            drawn = None
            if self.plan.augmentation:
                numbers = augmentation.draw(self.plan.augmentation, random, self.batch, TILE_SIZE)
                drawn = tuple(tf.constant(getattr(numbers, field.name)) for field in fields(numbers))
            losses.append(float(self._step(tf.constant(index), drawn)))
        return float(np.mean(losses))

    def _one_step(self, index: Any, drawn: tuple[Any, ...] | None) -> Any:
        import tensorflow as tf

        tiles, labels = tf.gather(self._tiles, index), tf.gather(self._labels, index)
        if drawn is None:
            pixels = tf.cast(tiles, tf.float32)
        else:
            pixels, labels = augmentation.apply(tiles, labels, augmentation.Draw(*drawn))
        if self.teachers:
            said = tf.stack([teacher(pixels, training=False) for teacher in self.teachers])
            labels = tf.sigmoid(tf.reduce_mean(said, axis=0))
        labels = labels * (1 - self.plan.label_smoothing) + 0.5 * self.plan.label_smoothing
        with tf.GradientTape() as tape:
            logits = self.model(pixels, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        weights = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss


def _checkpoint(folder: Path, trainer: _Trainer, losses: list[float]) -> None:
    partial = folder / "checkpoint.partial.npz"
    np.savez(partial, np.array(losses), *[variable.numpy() for variable in trainer.variables])
    partial.replace(folder / _CHECKPOINT_FILE)


def _restore(folder: Path, trainer: _Trainer) -> list[float]:
    file = folder / _CHECKPOINT_FILE
    if not file.is_file():
        return []
    with np.load(file) as saved:
        losses, *values = (saved[f"arr_{index}"] for index in range(len(saved.files)))
    for variable, value in zip(trainer.variables, values, strict=True):
        variable.assign(value)
    return [float(loss) for loss in losses]
