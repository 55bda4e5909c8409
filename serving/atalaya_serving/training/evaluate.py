"""Any model on labelled tiles: OpenVINO IR or ONNX, SavedModel, .keras, or a version folder of a model repository."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training.dataset import Examples
from atalaya_serving.training.errors import UnreadableModel
from atalaya_serving.training.metrics import Scores, score
from atalaya_serving.training.quiet import import_tensorflow_quietly
from atalaya_spec.manifest import FILE_NAME, find_version, load_manifest

BATCH = 32
Predict = Callable[[NDArray[np.uint8]], Any]


def evaluate(model: Path, examples: Examples, *, precision: str = "f32") -> Scores:
    """Scores of `model`, at the threshold its manifest names, else 0.5."""
    file = model_file(model)
    manifest_folder = file.parent if file.is_file() else file
    threshold = load_manifest(manifest_folder).output.threshold if (manifest_folder / FILE_NAME).is_file() else 0.5
    return score(probabilities(file, examples.tiles, precision=precision), examples.labels, threshold=threshold)


def model_file(model: Path) -> Path:
    """The file or SavedModel folder meant by a path: a model file, a version folder, a model's folder, or a run."""
    if model.is_file():
        return model
    if not model.is_dir():
        raise UnreadableModel(f"{model} does not exist; give a model file or a version's folder.")
    folder = model
    if any(child.name.isdecimal() for child in model.iterdir() if child.is_dir()):
        folder = find_version(model.parent, model.name)
    for name in ("model.keras", "saved_model.pb"):
        if (folder / name).is_file():
            return folder if name == "saved_model.pb" else folder / name
    found = [file for pattern in ("*.xml", "*.onnx", "*.keras") for file in sorted(folder.glob(pattern))]
    if len(found) != 1:
        told = ", ".join(file.name for file in found) or "none"
        raise UnreadableModel(f"{folder} holds {told} of .xml, .onnx, .keras, saved_model.pb; name one file.")
    return found[0]


def probabilities(model: Path, tiles: NDArray[np.uint8], *, precision: str = "f32") -> NDArray[np.float64]:
    """The probability [n] that `model` gives each of `tiles`. Raises UnreadableModel.

    OpenVINO models run at inference `precision` (f32 or bf16); the others at float32.
    """
    predict = _keras(model) if model.suffix == ".keras" else _saved(model) if model.is_dir() else _ir(model, precision)
    parts = [np.asarray(predict(tiles[start : start + BATCH])) for start in range(0, len(tiles), BATCH)]
    wrong = next((part.shape for part in parts if part.size != len(part) or part.dtype.kind != "f"), None)
    if wrong is not None:
        raise UnreadableModel(f"{model} gives {list(wrong)} for a batch; a damage model gives one float a tile.")
    found = np.concatenate([part.reshape(-1) for part in parts]).astype(np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise UnreadableModel(f"{model} gives values outside 0 to 1; export it with its sigmoid.")
    return found


def _ir(file: Path, precision: str) -> Predict:
    import openvino as ov

    try:
        compiled = ov.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    except RuntimeError as error:
        raise UnreadableModel(f"{file} is not a model that OpenVINO reads; give .xml, .onnx or .keras.") from error
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise UnreadableModel(
            f"{file} has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs; not 1 and 1."
        )
    wanted = compiled.input(0).get_element_type().to_dtype()

    def predict(tiles: NDArray[np.uint8]) -> Any:
        try:
            return compiled(tiles.astype(wanted, copy=False))[0]
        except RuntimeError as error:
            shape = compiled.input(0).get_partial_shape()
            raise UnreadableModel(
                f"{file} takes {shape}, not tiles {list(tiles.shape)}; export it for tiles."
            ) from error

    return predict


def _saved(folder: Path) -> Predict:
    import_tensorflow_quietly()
    import tensorflow as tf

    try:
        signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, KeyError, ValueError) as error:
        raise UnreadableModel(
            f"{folder} is not a SavedModel with a serving_default signature; export it anew."
        ) from error
    (name, wanted), *more = signature.structured_input_signature[1].items()
    if more:
        raise UnreadableModel(f"{folder} has {1 + len(more)} inputs; a damage model has one.")
    return lambda tiles: next(iter(signature(**{name: tf.cast(tiles, wanted.dtype)}).values())).numpy()


def _keras(file: Path) -> Predict:
    import_tensorflow_quietly()
    import keras

    from atalaya_serving.training import symmetric  # registers the layers that the file names

    assert symmetric.ORIENTATIONS
    try:
        model = keras.saving.load_model(file, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableModel(f"{file} is not a Keras 3 model that Atalaya knows; save it with keras.") from error

    def predict(tiles: NDArray[np.uint8]) -> Any:
        made = model(tiles, training=False)
        return np.asarray(next(iter(made.values())) if isinstance(made, dict) else made)

    return predict
