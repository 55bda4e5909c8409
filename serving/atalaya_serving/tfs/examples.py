"""tf.Examples: out of a request, and into the tensors of a model that does not parse them itself. Pure.

The refusals have the words of TensorFlow's own parser, which is what a client of a SavedModel meets.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atalaya_serving.datatypes import BYTES, NUMPY, Tensor
from atalaya_serving.engines.base import TensorSpec
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tfs.messages import Example
from atalaya_serving.tfs.tensors import tf_name

_KINDS = {"bytes_list": "string", "float_list": "float", "int64_list": "int64"}


def serialized_examples(given: Any) -> Tensor:
    """The request's examples, each serialised; a context is merged into every one. Raises InvalidRequest."""
    kind = given.WhichOneof("kind")
    examples = getattr(given, kind).examples if kind else ()
    if not examples:
        raise InvalidRequest("Input is empty.")
    context = given.example_list_with_context.context.SerializeToString() if kind != "example_list" else b""
    made = np.empty(len(examples), object)
    made[:] = [context + example.SerializeToString() for example in examples]
    return made


def features_to_tensors(serialized: Tensor, specs: Sequence[TensorSpec]) -> list[Tensor]:
    """One tensor an input: the feature of its name, a row an example. Raises InvalidRequest."""
    examples = [Example.FromString(one).features.feature for one in serialized.tolist()]
    return [np.stack([_row(spec, features, index) for index, features in enumerate(examples)]) for spec in specs]


def _row(spec: TensorSpec, features: Any, index: int) -> Tensor:
    kind = features[spec.name].WhichOneof("kind") if spec.name in features else None
    if kind is None:
        raise InvalidRequest(
            f"Name: <unknown>, Feature: {spec.name} (data type: {_expected(spec)}) is required but could not be found."
        )
    values = getattr(features[spec.name], kind).value
    if kind == "bytes_list":
        return _bytes_row(spec, list(values), index)
    if spec.datatype == BYTES or (kind == "float_list" and NUMPY[spec.datatype].kind != "f"):
        raise _other_type(spec, kind)
    return _shaped(spec, np.array(values, np.float32 if kind == "float_list" else np.int64), index, _KINDS[kind])


def _bytes_row(spec: TensorSpec, values: list[bytes], index: int) -> Tensor:
    """Strings for a string input; for another the raw bytes of the row, as images travel."""
    if spec.datatype == BYTES:
        made = np.empty(len(values), object)
        made[:] = values
        return _shaped(spec, made, index, "string")
    raw = b"".join(values)
    if len(raw) % NUMPY[spec.datatype].itemsize:
        raise _other_type(spec, "bytes_list")
    return _shaped(spec, np.frombuffer(raw, NUMPY[spec.datatype]), index, "byte")


def _shaped(spec: TensorSpec, values: Tensor, index: int, kind: str) -> Tensor:
    row = spec.shape[1:]
    free = [position for position, size in enumerate(row) if size == -1]
    known = math.prod(size for size in row if size != -1)
    fits = values.size == known if not free else len(free) == 1 and known > 0 and values.size % known == 0
    if not fits:
        raise InvalidRequest(
            f"Key: {spec.name}, Index: {index}.  Number of {kind} values != expected.  "
            f"Values size: {values.size} but output shape: [{','.join(map(str, row))}]"
        )
    return _cast(spec, values).reshape(row)


def _cast(spec: TensorSpec, values: Tensor) -> Tensor:
    if spec.datatype == BYTES:
        return values
    dtype = NUMPY[spec.datatype]
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)  # type: ignore[type-var]
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise InvalidRequest(f"Key: {spec.name}. Values outside {_expected(spec)}.")
    return values.astype(dtype)


def _expected(spec: TensorSpec) -> str:
    return tf_name(spec.datatype)


def _other_type(spec: TensorSpec, kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"Key: {spec.name}.  Data types don't match. Data type: {_KINDS[kind]} but expected type: {_expected(spec)}"
    )
