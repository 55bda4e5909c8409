"""Predict's JSON to and from tensors: the row format (`instances`) and the column format (`inputs`). Pure.

Numbers are read by numpy at once; only where that fails is the document walked, to say in TensorFlow Serving's words
which value at which depth is wrong.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from atalaya_serving import json_text
from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Tensor
from atalaya_serving.engines.base import TensorSpec
from atalaya_serving.errors import InvalidRequest, NotSupported
from atalaya_serving.tfs.tensors import tf_name

Tensors = dict[str, tuple[str, Tensor]]
_EXACT_INTEGERS = {"FP32": 2**24 - 1, "FP64": 2**53 - 1}
_MOST_DIMENSIONS = 32
_LARGEST = {"FP32": float(np.finfo(np.float32).max), "FP64": float(np.finfo(np.float64).max)}
_READABLE = frozenset({"FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT32", "UINT64", "BOOL", BYTES})


def parse_object(body: bytes) -> dict[str, Any]:
    """The request's JSON object. Raises InvalidRequest."""
    if not body:
        raise InvalidRequest("JSON Parse error: The document is empty")
    try:
        raw = json_text.read(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"JSON Parse error: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise InvalidRequest(f"JSON Value: {told(raw)} Is not object")
    return raw


def signature_name(raw: Mapping[str, Any]) -> str:
    """The signature asked for; empty for the default. Raises InvalidRequest."""
    name = raw.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidRequest(
            f"JSON Value: {told(raw)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def request_tensors(raw: Mapping[str, Any], specs: Sequence[TensorSpec]) -> tuple[Tensors, bool]:
    """The inputs by name, and whether they came in rows. Raises InvalidRequest, NotSupported."""
    if "instances" in raw and "inputs" in raw:
        raise InvalidRequest(
            f"JSON Value: {told(raw)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to"
            " exist "
        )
    by_name = {spec.name: spec for spec in specs}
    if "instances" in raw:
        instances = raw["instances"]
        if not isinstance(instances, list):
            raise InvalidRequest(f"JSON Value: {told(raw)} Excepting 'instances' to be an list/array")
        if not instances:
            raise InvalidRequest(f"JSON Value: {told(raw)} No values in 'instances' array")
        return _rows(instances, by_name), True
    if "inputs" in raw:
        return _columns(raw["inputs"], by_name), False
    raise InvalidRequest("Missing 'inputs' or 'instances' key")


def _rows(instances: list[Any], specs: Mapping[str, TensorSpec]) -> Tensors:
    is_named = _is_object(instances[0])
    if not is_named and len(specs) > 1:
        raise InvalidRequest(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    gathered: dict[str, list[Any]] = {}
    for index, element in enumerate(instances):
        if _is_object(element) != is_named:
            kinds = ("object", "list") if is_named else ("value/list", "object")
            raise InvalidRequest(f"Expecting {kinds[0]} but got {kinds[1]} at item {index} of input list")
        named = element if is_named else {next(iter(specs)): element}
        _check_keys(index, named, specs)
        for name, value in named.items():
            gathered.setdefault(name, []).append(value)
    return {name: (specs[name].datatype, _stacked(specs[name], items, is_named)) for name, items in gathered.items()}


def _check_keys(index: int, named: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    where = f"Failed to process element: {index}"
    for name in named:
        if name not in specs:
            raise InvalidRequest(
                f"{where} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named"
                f" input: {name}"
            )
    if named.keys() != specs.keys():
        raise InvalidRequest(
            f"{where} of 'instances' list. JSON object: {told(named)} keys must be equal to: {','.join(sorted(specs))}"
        )


def _stacked(spec: TensorSpec, items: list[Any], is_named: bool) -> Tensor:
    """All rows at once; when that fails, each by itself to name the row."""
    try:
        return dense(items, spec.datatype)
    except InvalidRequest:
        expected: tuple[int, ...] | None = None
        for index, item in enumerate(items):
            key = f" key: {spec.name}" if is_named else ""
            where = f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: "
            try:
                shape = dense(item, spec.datatype).shape
            except InvalidRequest as error:
                raise InvalidRequest(f"{where}{error}") from error
            expected = shape if expected is None else expected
            if np.prod(shape) != np.prod(expected):
                told_sizes = f"Expecting tensor size: {int(np.prod(expected))} but got: {int(np.prod(shape))}"
                raise InvalidRequest(f"{where}{told_sizes}") from None
            if shape != expected:
                raise InvalidRequest(f"{where}Expecting shape {_dims(expected)} but got: {_dims(shape)}") from None
        raise


def _columns(inputs: Any, specs: Mapping[str, TensorSpec]) -> Tensors:
    if not _is_object(inputs):
        if len(specs) > 1:
            raise InvalidRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
                " tensorinfo_map"
            )
        inputs = {next(iter(specs)): inputs}
    for name in specs:
        if name not in inputs:
            raise InvalidRequest(f"Missing named input: {name} in 'inputs' object.")
    return {name: (spec.datatype, dense(inputs[name], spec.datatype)) for name, spec in specs.items()}


def dense(value: Any, datatype: str) -> Tensor:
    """A JSON scalar or nested list as a tensor. Raises InvalidRequest, NotSupported."""
    if datatype not in _READABLE:
        raise NotSupported(f"Conversion of JSON Value: {told(value)} to type: {tf_name(datatype)}")
    if datatype == BYTES:
        return _strings(value)
    try:
        plain = np.asarray(value)
    except (ValueError, OverflowError):
        plain = np.empty(0, object)
    wanted = {"f": "iuf", "b": "b"}.get(NUMPY[datatype].kind, "iu")
    if (plain.dtype.kind not in wanted and plain.size) or plain.dtype == object:
        _explain(value, datatype, _shape(value), 0)
        plain = _large_integers(value, datatype)
    _check_range(plain, datatype)
    with np.errstate(over="ignore"):
        return plain.astype(NUMPY[datatype])


def _large_integers(value: Any, datatype: str) -> Tensor:
    """What numpy took for floats or objects because it goes beyond int64. Raises InvalidRequest."""
    try:
        with np.errstate(over="ignore"):
            return np.array(value, NUMPY[datatype])
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidRequest(f"JSON Value: {told(value)} is not of expected type: {tf_name(datatype)}") from error


def _check_range(plain: Tensor, datatype: str) -> None:
    if not plain.size or plain.dtype.kind == "b":
        return
    low, high = plain.min(), plain.max()
    dtype = NUMPY[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)  # type: ignore[type-var]
        if int(low) < limits.min or int(high) > limits.max:
            wrong = low if int(low) < limits.min else high
            raise InvalidRequest(f"JSON Value: {wrong} Type: Number is not of expected type: {tf_name(datatype)}")
        return
    if plain.dtype.kind in "iu":
        most = _EXACT_INTEGERS[datatype]
        wrong = next((value for value in (int(low), int(high)) if abs(value) > most), None)
    else:
        finite = plain[np.isfinite(plain)]
        beyond = finite[np.abs(finite) > _LARGEST[datatype]]
        wrong = beyond[0] if beyond.size else None
    if wrong is not None:
        raise InvalidRequest(f"Cannot convert JSON value: {wrong} to {tf_name(datatype)} without loss of precision.")


def _strings(value: Any) -> Tensor:
    shape = _shape(value)
    _explain(value, BYTES, shape, 0)
    flat = [value]
    for _ in shape:
        flat = [item for part in flat for item in part]
    made = np.empty(len(flat), object)
    made[:] = [as_bytes(item) for item in flat]
    return made.reshape(shape)


def as_bytes(value: Any) -> bytes:
    """A JSON string, or {"b64": …}, as bytes. Raises InvalidRequest."""
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("Unable to base64 decode") from error


def is_base64(value: Any) -> bool:
    """Whether `value` is {"b64": "…"} and nothing more."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that the first elements promise."""
    shape: list[int] = []
    while isinstance(value, list):
        if len(shape) == _MOST_DIMENSIONS:
            raise InvalidRequest(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _explain(value: Any, datatype: str, shape: tuple[int, ...], level: int) -> None:
    """Raise InvalidRequest at the first value that breaks type or shape."""
    if isinstance(value, list):
        if level >= len(shape):
            raise InvalidRequest(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise InvalidRequest(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        for item in value:
            _explain(item, datatype, shape, level + 1)
        return
    if level != len(shape):
        raise InvalidRequest(
            f"JSON Value: {told(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level:"
            f" {len(shape)}"
        )
    if datatype == BYTES and isinstance(value, dict) and not is_base64(value):
        raise InvalidRequest(f"JSON Value: {told(value)} not formatted correctly for base64 data")
    if not _is_of(value, datatype):
        raise InvalidRequest(
            f"JSON Value: {told(value)} Type: {json_type(value)} is not of expected type: {tf_name(datatype)}"
        )


def _is_of(value: Any, datatype: str) -> bool:
    if datatype == BYTES:
        return isinstance(value, str) or is_base64(value)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and NUMPY[datatype].kind == "f")


def json_type(value: Any) -> str:
    """The JSON type of a value, as TensorFlow Serving names it."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names = ((dict, "Object"), (list, "Array"), (str, "String"))
    return next((name for kind, name in names if isinstance(value, kind)), "Number")


def told(value: Any, most: int = 200) -> str:
    """A JSON value for a message, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}…"


def response_body(outputs: Mapping[str, Tensor], datatypes: Mapping[str, str], *, in_rows: bool) -> bytes:
    """The answer in the format of the request. Raises InvalidRequest where rows are asked for and there are none."""
    outputs = {name: _widened(datatypes[name], tensor) for name, tensor in outputs.items()}
    values = {name: _values(name, datatypes[name], tensor) for name, tensor in outputs.items()}
    encoded = partial(json_text.write, all_finite=all(map(json_text.is_finite, outputs.values())))
    if not in_rows:
        return encoded({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    sizes: dict[str, int] = {}
    for name, tensor in outputs.items():
        if tensor.ndim == 0:
            raise InvalidRequest(f"Tensor name: {name} has no shape information ")
        expected = next(iter(sizes.values()), tensor.shape[0])
        if tensor.shape[0] != expected:
            raise InvalidRequest(
                f"Tensor name: {name} has inconsistent batch size: {tensor.shape[0]} expecting: {expected}"
            )
        sizes[name] = tensor.shape[0]
    if len(values) == 1:
        return encoded({"predictions": next(iter(values.values()))})
    count = next(iter(sizes.values()))
    return encoded({"predictions": [{name: rows[row] for name, rows in values.items()} for row in range(count)]})


def _widened(datatype: str, tensor: Tensor) -> Tensor:
    return (tensor.astype(np.uint32) << 16).view(np.float32) if datatype == BF16 else tensor


def _values(name: str, datatype: str, tensor: Tensor) -> Any:
    if datatype != BYTES:
        return json_text.numbers(tensor)
    as_base64 = name.endswith("_bytes")
    flat = np.empty(tensor.size, object)
    flat[:] = [_string(name, item, as_base64) for item in tensor.ravel().tolist()]
    return flat.reshape(tensor.shape).tolist()


def _string(name: str, item: bytes, as_base64: bool) -> Any:
    if as_base64:
        return {"b64": base64.b64encode(item).decode()}
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"Tensor name: {name} has bytes that are no UTF-8; only an output whose name ends in _bytes is sent as"
            " base64, or take it over gRPC."
        ) from error


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _dims(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
