"""The networks that `atalaya train` knows, by name. They take pixels as they are (0 to 255) and give one logit.

Normalisation is part of the network, so nobody has to repeat it. How a network is fitted is in `recipe.py`.
"""

from collections.abc import Callable
from typing import Any

TILE_SIZE = 128
INPUT_NAME = "tiles"
OUTPUT_NAME = "probability"

Tensor = Any
Model = Any


def build(network: str, dtype: str = "float32") -> Model:
    """A fresh Keras model of `network`: pixels [batch, 128, 128, 1] of `dtype` to a logit [batch, 1]."""
    import keras

    tiles = keras.Input((TILE_SIZE, TILE_SIZE, 1), dtype=dtype, name=INPUT_NAME)
    body = NETWORKS[network](keras.layers.Rescaling(1 / 127.5, offset=-1.0)(tiles))
    return keras.Model(tiles, keras.layers.Dense(1, name="logit")(body), name=network.replace("-", "_"))


def _conv(x: Tensor, channels: int, kernel: int, strides: int = 1, *, relu: bool = True) -> Tensor:
    from keras import layers

    x = layers.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.95)(x)
    return layers.ReLU()(x) if relu else x


def _residual(x: Tensor, channels: int) -> Tensor:
    from keras import layers

    y = _conv(x, channels, 3)
    y = _conv(y, channels, 3, relu=False)
    return layers.ReLU()(layers.Add()([x, y]))


def compact(x: Tensor) -> Tensor:
    """A small residual network with a strided stem: 26 million multiplications, the thesis network has 73."""
    from keras import layers

    x = _conv(x, 16, 5, 2)
    for channels in (24, 32, 48):
        x = _residual(_conv(x, channels, 3, 2), channels)
    return layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))


def thesis2020(x: Tensor) -> Tensor:
    """The network of the 2020 thesis, kept as it was, as the baseline."""
    from keras import layers

    for depth in range(4):
        x = layers.Conv2D(64, 3, activation="relu")(x)
        if depth < 3:
            x = layers.Dropout(0.5)(layers.MaxPooling2D(3)(x))
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


NETWORKS: dict[str, Callable[[Tensor], Tensor]] = {"compact": compact, "thesis2020": thesis2020}
DEFAULT_NETWORK = "compact"
