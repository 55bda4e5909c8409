"""Convolutions that treat the eight symmetries of a square alike (group convolutions over p4m; Cohen & Welling 2016).

A tile has no up: turned or mirrored, it shows the same damage. A channel here belongs to one of eight orientations of a
field, and one set of weights serves all of them, turned and mirrored accordingly. The network's answer is then the same
for all eight views of a tile, by construction, at the price of an ordinary convolution of the same width; with few
tiles that is worth more than showing the turned views in training.

Channels are ordered orientation by orientation: channel = orientation × fields + field. Sizes must be even and strided
kernels even, or the grid itself breaks the symmetry.
"""

from functools import cache
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

ORIENTATIONS = 8
Tensor = Any


def _oriented(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A square array turned by `orientation % 4` quarters, after a mirroring for the upper four."""
    return np.rot90(plane[:, ::-1] if orientation >= 4 else plane, orientation % 4)


@cache
def _relative() -> NDArray[np.int64]:
    """[g, h] → the orientation g⁻¹h, found by trying them on a square without symmetry."""
    probe = np.arange(9).reshape(3, 3)
    views = {_oriented(probe, k).tobytes(): k for k in range(ORIENTATIONS)}
    table = np.empty((ORIENTATIONS, ORIENTATIONS), np.int64)
    for g in range(ORIENTATIONS):
        for k in range(ORIENTATIONS):
            table[g, views[_oriented(_oriented(probe, k), g).tobytes()]] = k
    return table


@cache
def _kernel_index(kernel: int, fields_in: int, fields_out: int, lifting: bool) -> NDArray[np.int32]:
    """Where each entry of the whole kernel [k, k, in, out] lies in the flat weights of one orientation."""
    orientations_in = 1 if lifting else ORIENTATIONS
    weights = np.arange(kernel * kernel * orientations_in * fields_in * fields_out, dtype=np.int32)
    weights = weights.reshape(kernel, kernel, orientations_in, fields_in, fields_out)
    outputs = []
    for g in range(ORIENTATIONS):
        seen = weights if lifting else weights[:, :, _relative()[g]]
        outputs.append(_oriented(seen, g).reshape(kernel, kernel, orientations_in * fields_in, fields_out))
    return np.concatenate(outputs, axis=-1)


@keras.saving.register_keras_serializable(package="atalaya")
class SymmetricConv(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """A convolution without bias to `fields` × 8 channels. `lifting`: the input is an image, not yet oriented."""

    def __init__(self, fields: int, kernel: int, strides: int = 1, lifting: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields, self.kernel, self.strides, self.lifting = fields, kernel, strides, lifting

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights of one orientation, with He's variance for the whole kernel."""
        channels = int(input_shape[-1] or 0)
        fields_in = channels if self.lifting else channels // ORIENTATIONS
        self.index = _kernel_index(self.kernel, fields_in, self.fields, self.lifting)
        spread = float(np.sqrt(2 / (self.kernel**2 * channels)))
        self.weight = self.add_weight(
            shape=(self.kernel**2 * channels * self.fields,),
            initializer=keras.initializers.RandomNormal(stddev=spread),
            name="weight",
        )

    def call(self, x: Tensor) -> Tensor:
        """[batch, side, side, channels in] → [batch, side/strides, side/strides, fields × 8]."""
        whole = keras.ops.reshape(keras.ops.take(self.weight, self.index.ravel()), self.index.shape)
        return keras.ops.conv(x, whole, strides=self.strides, padding="same")

    def get_config(self) -> dict[str, Any]:
        """What makes this layer again."""
        made = {"fields": self.fields, "kernel": self.kernel, "strides": self.strides, "lifting": self.lifting}
        return {**super().get_config(), **made}


@keras.saving.register_keras_serializable(package="atalaya")
class SymmetricNorm(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Batch normalisation that shares its statistics among the orientations of a field."""

    def __init__(self, momentum: float = 0.95, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """One scale, offset, running mean and variance a field."""
        shape = (int(input_shape[-1] or 0) // ORIENTATIONS,)
        self.scale = self.add_weight(shape=shape, initializer="ones", name="scale")
        self.offset = self.add_weight(shape=shape, initializer="zeros", name="offset")
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.variance = self.add_weight(shape=shape, initializer="ones", trainable=False, name="variance")

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Normalise by the batch in training, else by the running statistics."""
        if not training:
            factor = self.scale / keras.ops.sqrt(self.variance + self.epsilon)
            return x * self._spread(factor) + self._spread(self.offset - self.mean * factor)
        mean, variance = keras.ops.moments(x, axes=(0, 1, 2))
        fields = self._gathered(mean)
        spread = self._gathered(variance + keras.ops.square(mean)) - keras.ops.square(fields)
        self.mean.assign(self.momentum * self.mean + (1 - self.momentum) * fields)
        self.variance.assign(self.momentum * self.variance + (1 - self.momentum) * spread)
        factor = self.scale / keras.ops.sqrt(spread + self.epsilon)
        return x * self._spread(factor) + self._spread(self.offset - fields * factor)

    def _spread(self, of_fields: Tensor) -> Tensor:
        return keras.ops.tile(of_fields, (ORIENTATIONS,))

    def _gathered(self, of_channels: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.reshape(of_channels, (ORIENTATIONS, -1)), axis=0)

    def get_config(self) -> dict[str, Any]:
        """What makes this layer again."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def pool_orientations(x: Tensor) -> Tensor:
    """[batch, side, side, fields × 8] → [batch, fields]: the mean over places and orientations."""
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    oriented = keras.layers.Reshape((ORIENTATIONS, pooled.shape[-1] // ORIENTATIONS))(pooled)
    return keras.layers.GlobalAveragePooling1D()(oriented)
