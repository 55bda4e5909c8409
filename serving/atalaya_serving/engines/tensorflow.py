"""The TensorFlow engine: SavedModels by signature, each a traced function that has run once before it serves.

Outside of training this is the only module that imports tensorflow, and only when a model asks for it: the package is
large and comes with the extra `tensorflow`. A GPU that TensorFlow finds is used; TensorFlow itself decides.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Tensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, LoadOptions, Signature, Slot, TensorSpec
from atalaya_serving.errors import InferenceFailed, InvalidRequest, ModelLoadFailed, ServingError

_log = logging.getLogger(__name__)

_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "bfloat16": BF16, "float32": "FP32",
    "float64": "FP64", "string": BYTES,
}  # fmt: skip
_UNREADABLE = (DecodeError, OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError)
_FOLDERS = (".", "saved_model", "model.savedmodel")


class TensorFlowEngine:
    """Loads SavedModels. 0 threads leave the choice to TensorFlow."""

    def __init__(self, intra_op_threads: int = 0, inter_op_threads: int = 0) -> None:
        self._tf = _tensorflow(intra_op_threads, inter_op_threads)

    def load(self, folder: Path, options: LoadOptions) -> "TensorFlowModel":
        """Load every signature and run it once. Raises ModelLoadFailed."""
        tf = self._tf
        where = next((folder / name for name in _FOLDERS if (folder / name / "saved_model.pb").is_file()), None)
        if where is None:
            raise ModelLoadFailed(f"{folder} holds no saved_model.pb, which the TensorFlow engine needs; export one.")
        try:
            definitions = _signature_definitions(tf, where)
            loaded = tf.saved_model.load(str(where))
        except (*_UNREADABLE, tf.errors.OpError) as error:
            raise ModelLoadFailed(
                f"{where} is not a SavedModel that TensorFlow can load: {_one_line(error)}; export it again."
            ) from error
        return TensorFlowModel(tf, loaded, definitions, options)

    def describe(self) -> Mapping[str, str]:
        """TensorFlow's version."""
        return {"tensorflow": str(self._tf.__version__)}


class TensorFlowModel:
    """A loaded SavedModel; its slots share it, because a traced function may run in many threads."""

    platform = "tensorflow_savedmodel"
    precision = "f32"

    def __init__(self, tf: Any, loaded: Any, definitions: Mapping[str, Any], options: LoadOptions) -> None:
        self._loaded = loaded  # the functions hold its variables weakly
        self.signatures = {
            name: Signature(_specs(tf, one.inputs), _specs(tf, one.outputs), one.method_name)
            for name, one in sorted(definitions.items())
            if name in loaded.signatures
        }
        if not self.signatures:
            raise ModelLoadFailed("the SavedModel has no signature; export it with one, such as serving_default.")
        default = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in self.signatures else next(iter(self.signatures))
        self.inputs, self.outputs = self.signatures[default].inputs, self.signatures[default].outputs
        functions = {name: loaded.signatures[name] for name in self.signatures}
        functions[""] = functions[default]
        signatures = {**self.signatures, "": self.signatures[default]}
        made = [TensorFlowSlot(tf, functions, signatures) for _ in range(options.slots or os.cpu_count() or 1)]
        self.slots: Sequence[Slot] = made
        for name in self.signatures:
            _warm_up(made[0], name, self.signatures[name].inputs)


class TensorFlowSlot:
    """One caller of the model's functions."""

    def __init__(self, tf: Any, functions: Mapping[str, Any], signatures: Mapping[str, Signature]) -> None:
        self._tf, self._functions, self._signatures = tf, functions, signatures

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[int], signature: str = "") -> list[Tensor]:
        """See Slot.run. Raises InvalidRequest where the graph refuses the input, as a parser of Examples does."""
        tf, called = self._tf, self._signatures[signature]
        try:
            given = {spec.name: self._given(spec, one) for spec, one in zip(called.inputs, inputs, strict=True)}
            answers = self._functions[signature](**given)
            return [self._taken(called.outputs[index], answers[called.outputs[index].name]) for index in outputs]
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise InvalidRequest(_one_line(error)) from error
        except (tf.errors.OpError, RuntimeError, TypeError, ValueError) as error:
            raise InferenceFailed(f"TensorFlow failed on this request: {_one_line(error)}.") from error

    def _given(self, spec: TensorSpec, tensor: Tensor) -> Any:
        if spec.datatype == BF16:
            return self._tf.bitcast(self._tf.constant(tensor), self._tf.bfloat16)
        return self._tf.constant(tensor, self._tf.string) if spec.datatype == BYTES else self._tf.constant(tensor)

    def _taken(self, spec: TensorSpec, answer: Any) -> Tensor:
        if spec.datatype == BF16:
            answer = self._tf.bitcast(answer, self._tf.uint16)
        return np.asarray(answer.numpy(), object if spec.datatype == BYTES else None)


def _tensorflow(intra_op_threads: int, inter_op_threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ModelLoadFailed(
            f"the backend tensorflow is not installed ({error}); install atalaya[tensorflow], or choose openvino."
        ) from error
    try:
        if intra_op_threads:
            tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)
        if inter_op_threads:
            tf.config.threading.set_inter_op_parallelism_threads(inter_op_threads)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        _log.warning("TensorFlow runs in this process already; its threads stay as they are")
    return tf


def _signature_definitions(tf: Any, folder: Path) -> dict[str, Any]:
    """The SignatureDefs of the graph that is tagged for serving: tf.saved_model.load drops the method names."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graphs = [graph for graph in saved.meta_graphs if tf.saved_model.SERVING in graph.meta_info_def.tags]
    if not graphs:
        raise ValueError(f"no graph has the tag {tf.saved_model.SERVING!r}")
    hidden = "__saved_model_init_op"
    return {name: one for name, one in graphs[0].signature_def.items() if name != hidden}


def _specs(tf: Any, infos: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(tf, name, infos[name]) for name in sorted(infos))


def _spec(tf: Any, name: str, info: Any) -> TensorSpec:
    datatype = _DATATYPES.get(tf.dtypes.as_dtype(info.dtype).name)
    if datatype is None or info.tensor_shape.unknown_rank:
        raise ModelLoadFailed(
            f"tensor {name!r} is {tf.dtypes.as_dtype(info.dtype).name} of rank"
            f" {'unknown' if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)}, which cannot travel;"
            " give it another type or a fixed rank in the model."
        )
    shape = tuple(int(dim.size) for dim in info.tensor_shape.dim)
    bounds = tuple((0, -1) if size == -1 else (size, size) for size in shape)
    return TensorSpec(name, datatype, shape, bounds, frozenset({info.name} if info.name else ()))


def _warm_up(slot: TensorFlowSlot, signature: str, specs: Sequence[TensorSpec]) -> None:
    """Trace and run once on zeros, where the inputs are numbers; what a zero image breaks, a real one need not."""
    if any(spec.datatype == BYTES for spec in specs):
        return
    zeros = [np.zeros([1 if size == -1 else size for size in spec.shape], NUMPY[spec.datatype]) for spec in specs]
    try:
        slot.run(zeros, [0], signature)
    except ServingError as error:
        _log.info("no warm-up", extra={"signature": signature, "reason": str(error)})


def _one_line(error: Exception, limit: int = 300) -> str:
    """TensorFlow's message on one line: it stands before the first [[{{node …}}]], below a trace where there is one."""
    text = str(getattr(error, "message", None) or error)
    before_node = text.partition("[[{{node")[0].strip().splitlines()
    told = before_node[-1].strip() if "[[{{node" in text and before_node else text.partition("\n\n")[0]
    told = " ".join(told.split()) or type(error).__name__
    return told if len(told) <= limit else told[: limit - 1] + "…"
