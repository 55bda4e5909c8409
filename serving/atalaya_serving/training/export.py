"""A trained network to the formats that servers mount: SavedModel, and OpenVINO IR in fp32, fp16 and int8.

Every exported graph takes raw uint8 pixels and gives the calibrated probability. `ov.convert_model` cannot trace a
Keras model, so the way to IR leads over a SavedModel. int8 quantises the graph of the logit, and only then appends the
calibration, so the last operations stay exact.
"""

import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training.calibration import Platt
from atalaya_serving.training.networks import INPUT_NAME, OUTPUT_NAME, TILE_SIZE, Model

OvModel = Any


def serving_model(logits: Model, calibration: Platt) -> Model:
    """The Keras model that is served: uint8 tiles to {"probability": [batch, 1]}."""
    import keras

    tiles = keras.Input((TILE_SIZE, TILE_SIZE, 1), dtype="uint8", name=INPUT_NAME)
    logit = logits(keras.ops.cast(tiles, "float32"))
    calibrated = keras.layers.Rescaling(calibration.slope, offset=calibration.intercept, name="calibration")(logit)
    return keras.Model(tiles, {OUTPUT_NAME: keras.layers.Activation("sigmoid", name=OUTPUT_NAME)(calibrated)})


def save_saved_model(model: Model, folder: Path) -> None:
    """Write `model` as a TensorFlow SavedModel with the signature `serving_default`."""
    model.export(folder, format="tf_saved_model", verbose=False)


def logit_graph(logits: Model) -> OvModel:
    """The OpenVINO graph of a Keras logit model: uint8 tiles [-1, 128, 128, 1] to a logit [-1, 1]."""
    import keras
    import openvino as ov

    tiles = keras.Input((TILE_SIZE, TILE_SIZE, 1), dtype="uint8", name=INPUT_NAME)
    whole = keras.Model(tiles, {"logit": logits(keras.ops.cast(tiles, "float32"))})
    with tempfile.TemporaryDirectory() as folder:
        save_saved_model(whole, Path(folder))
        graph = ov.convert_model(folder)
    graph.reshape([-1, TILE_SIZE, TILE_SIZE, 1])
    graph.input(0).get_tensor().set_names({INPUT_NAME})
    return graph


def quantised(graph: OvModel, tiles: NDArray[np.uint8]) -> OvModel:
    """`graph` with int8 weights and activations; `tiles` show it the range of its activations.

    The accurate bias correction matters: out of fold, with the fast one five times as many decisions flipped.
    """
    import nncf

    with redirect_stdout(StringIO()):  # nncf draws its progress there
        return nncf.quantize(
            graph,
            nncf.Dataset([tile[None] for tile in tiles]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(tiles),
            fast_bias_correction=False,
        )


def with_calibration(graph: OvModel, calibration: Platt) -> OvModel:
    """A copy of a logit `graph` that ends in sigmoid(slope × logit + intercept), named `probability`."""
    import openvino as ov
    from openvino import opset13 as ops

    copy = graph.clone()
    logit = copy.output(0).get_node().input_value(0)
    scaled = ops.add(
        ops.multiply(logit, ops.constant(np.float32(calibration.slope))),
        ops.constant(np.float32(calibration.intercept)),
    )
    probability = ops.sigmoid(scaled)
    probability.output(0).get_tensor().set_names({OUTPUT_NAME})
    probability.set_friendly_name(OUTPUT_NAME)
    return ov.Model([probability.output(0)], copy.get_parameters(), "atalaya")


def save_ir(graph: OvModel, folder: Path, *, fp16: bool) -> None:
    """Write `folder/model.xml` and `model.bin`, with weights in half precision where `fp16`."""
    import openvino as ov

    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, folder / "model.xml", compress_to_fp16=fp16)
