"""What a tile may look like without its label changing: turned, mirrored, shifted, zoomed, lit otherwise, noisier.

All random numbers are drawn in numpy from a seeded generator, so a step can be repeated; TensorFlow only applies them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = Any
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How far each change may go. Angles in degrees, shifts as a share of the side, light in grey levels (0 to 255)."""

    angle: float = 15.0
    zoom: float = 1.2
    stretch: float = 1.05
    shift: float = 0.12
    contrast: float = 1.35
    brightness: float = 25.0
    tone: float = 0.3
    gradient: float = 20.0
    noise: float = 12.0
    blur: float = 0.3
    mixup: float = 0.0


@dataclass(frozen=True)
class Draw:
    """One batch's random numbers: `affine` [n, 8] for ImageProjectiveTransformV3, the others [n, 1, 1, 1]."""

    affine: Array
    contrast: Array
    brightness: Array
    tone: Array
    slope_x: Array
    slope_y: Array
    noise: Array
    blur: Array
    mix: Array
    partner: NDArray[np.int32]
    noise_seed: NDArray[np.int32]


def draw(how: Augmentation, random: np.random.Generator, count: int, size: int) -> Draw:
    """The random numbers of one batch of `count` tiles of `size` pixels."""

    def symmetric(limit: float) -> Array:
        return random.uniform(-limit, limit, (count, 1, 1, 1)).astype(np.float32)

    def factor(limit: float) -> Array:
        return np.exp(symmetric(float(np.log(limit))))

    noise = random.uniform(0, how.noise, (count, 1, 1, 1)) * (random.random((count, 1, 1, 1)) < 0.5)
    blur = random.uniform(0, 1, (count, 1, 1, 1)) * (random.random((count, 1, 1, 1)) < how.blur)
    mix = random.beta(how.mixup, how.mixup, (count, 1, 1, 1)) if how.mixup else np.ones((count, 1, 1, 1))
    return Draw(
        affine=_affine(how, random, count, size),
        contrast=factor(how.contrast),
        brightness=symmetric(how.brightness),
        tone=symmetric(how.tone),
        slope_x=symmetric(how.gradient),
        slope_y=symmetric(how.gradient),
        noise=noise.astype(np.float32),
        blur=blur.astype(np.float32),
        mix=np.maximum(mix, 1 - mix).astype(np.float32),
        partner=random.permutation(count).astype(np.int32),
        noise_seed=random.integers(0, 2**31 - 1, 2).astype(np.int32),
    )


def _affine(how: Augmentation, random: np.random.Generator, count: int, size: int) -> Array:
    """Output pixel to input pixel: one of eight symmetries, a small turn, a zoom, a shift, about the tile's centre."""
    turn = np.deg2rad(90 * random.integers(0, 4, count) + random.uniform(-how.angle, how.angle, count))
    mirror = random.choice([-1.0, 1.0], count)
    zoom = np.exp(random.uniform(-np.log(how.zoom), np.log(how.zoom), count))
    stretch = np.exp(random.uniform(-np.log(how.stretch), np.log(how.stretch), count))
    shift = random.uniform(-how.shift, how.shift, (2, count)) * size
    a, b = np.cos(turn) * zoom * stretch * mirror, -np.sin(turn) * zoom / stretch
    d, e = np.sin(turn) * zoom * stretch * mirror, np.cos(turn) * zoom / stretch
    centre = (size - 1) / 2
    c, f = centre - a * centre - b * centre + shift[0], centre - d * centre - e * centre + shift[1]
    zero = np.zeros(count)
    return np.stack([a, b, c, d, e, f, zero, zero], axis=1).astype(np.float32)


def apply(tiles: Tensor, labels: Tensor, drawn: Draw) -> tuple[Tensor, Tensor]:
    """Augmented pixels [n, size, size, 1] (float32, 0 to 255) and labels [n, 1] of `tiles` (uint8), by `drawn`."""
    import tensorflow as tf

    x = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(tiles, tf.float32),
        transforms=drawn.affine,
        output_shape=tf.shape(tiles)[1:3],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    x += drawn.blur * (tf.nn.avg_pool2d(x, 3, 1, "SAME") - x)
    x += drawn.tone * x * (1.0 - x / 255.0)
    mean = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
    ramp = tf.linspace(-1.0, 1.0, tf.shape(x)[1])
    light = drawn.slope_x * ramp[None, None, :, None] + drawn.slope_y * ramp[None, :, None, None]
    grain = drawn.noise * tf.random.stateless_uniform(tf.shape(x), drawn.noise_seed, -1.0, 1.0)
    x = tf.clip_by_value((x - mean) * drawn.contrast + mean + drawn.brightness + light + grain, 0.0, 255.0)
    share = tf.reshape(drawn.mix, (-1, 1))
    x = drawn.mix * x + (1 - drawn.mix) * tf.gather(x, drawn.partner)
    return x, share * labels + (1 - share) * tf.gather(labels, drawn.partner)
