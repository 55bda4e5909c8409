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


def build(network: str) -> Model:
    """A fresh Keras model of `network`: pixels [batch, 128, 128, 1] as float32 to a logit [batch, 1]."""
    import keras

    tiles = keras.Input((TILE_SIZE, TILE_SIZE, 1), name=INPUT_NAME)
    features = NETWORKS[network](keras.layers.Rescaling(1 / 127.5, offset=-1.0)(tiles))
    return keras.Model(tiles, keras.layers.Dense(1, name="logit")(features), name=network)


def symmetric(x: Tensor) -> Tensor:
    """A small residual network whose answer is the same for all eight views of a tile (see `symmetric.py`)."""
    from keras import layers

    from atalaya_serving.training.symmetric import ORIENTATIONS, pool_orientations

    x = _oriented(x, 2, kernel=6, strides=2, lifting=True)
    fields = 0
    for fields, blocks in ((2, 1), (4, 2), (8, 2)):  # 16, 32, 64 channels: what a processor's vectors hold
        x = _oriented(x, fields, kernel=2, strides=2)
        for _ in range(blocks):
            y = _oriented(_oriented(x, fields), fields, relu=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    strongest = layers.GlobalMaxPooling1D()(layers.Reshape((ORIENTATIONS, fields))(layers.GlobalMaxPooling2D()(x)))
    return layers.Dropout(0.2)(layers.Concatenate()([pool_orientations(x), strongest]))


def _oriented(
    x: Tensor, fields: int, *, kernel: int = 3, strides: int = 1, relu: bool = True, lifting: bool = False
) -> Tensor:
    from keras import layers

    from atalaya_serving.training.symmetric import SymmetricConv, SymmetricNorm

    x = SymmetricNorm()(SymmetricConv(fields, kernel, strides, lifting)(x))
    return layers.ReLU()(x) if relu else x


def compact(x: Tensor) -> Tensor:
    """A plain residual network with a strided stem, quick to fit: a teacher of `symmetric`."""
    from keras import layers

    x = _plain(x, 16, kernel=5, strides=2)
    for channels in (24, 32, 48):
        x = _plain(x, channels, strides=2)
        y = _plain(_plain(x, channels), channels, relu=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))


def _plain(x: Tensor, channels: int, *, kernel: int = 3, strides: int = 1, relu: bool = True) -> Tensor:
    from keras import layers

    x = layers.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.95)(x)
    return layers.ReLU()(x) if relu else x


def thesis2020(x: Tensor) -> Tensor:
    """The network of the 2020 thesis, kept as it was, as the baseline."""
    from keras import layers

    for depth in range(4):
        x = layers.Conv2D(64, 3, activation="relu")(x)
        if depth < 3:
            x = layers.Dropout(0.5)(layers.MaxPooling2D(3)(x))
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


NETWORKS: dict[str, Callable[[Tensor], Tensor]] = {
    "symmetric": symmetric,
    "compact": compact,
    "thesis2020": thesis2020,
}
DEFAULT_NETWORK = "symmetric"
