"""TensorProto to and from numpy, with TensorFlow's rules: raw content, or typed values of which the last one repeats.

Answers carry typed values (`float_val`), as TensorFlow Serving's do, because clients read those fields.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Encoded, Tensor, dtype_of
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tensors import MAX_RANK
from atalaya_serving.tfs.messages import DataType, TensorProto
from atalaya_serving.wire import packed_varint

# The v2 datatype, and the field of typed values, by TensorFlow's data type.
_KINDS = {
    "DT_FLOAT": ("FP32", "float_val"), "DT_DOUBLE": ("FP64", "double_val"), "DT_HALF": ("FP16", "half_val"),
    "DT_BFLOAT16": (BF16, "half_val"), "DT_INT8": ("INT8", "int_val"), "DT_INT16": ("INT16", "int_val"),
    "DT_INT32": ("INT32", "int_val"), "DT_INT64": ("INT64", "int64_val"), "DT_UINT8": ("UINT8", "int_val"),
    "DT_UINT16": ("UINT16", "int_val"), "DT_UINT32": ("UINT32", "uint32_val"), "DT_UINT64": ("UINT64", "uint64_val"),
    "DT_BOOL": ("BOOL", "bool_val"), "DT_STRING": (BYTES, "string_val"),
}  # fmt: skip
_NUMBER = {name: DataType.values_by_name[name].number for name in _KINDS}
_BY_NUMBER = {_NUMBER[name]: kind for name, kind in _KINDS.items()}
_BY_DATATYPE = {datatype: (_NUMBER[name], field) for name, (datatype, field) in _KINDS.items()}
_TF_NAMES = {
    "FP32": "float", "FP64": "double", "FP16": "half", BF16: "bfloat16", "BOOL": "bool", BYTES: "string",
}  # fmt: skip
_MOST_REPEATED_BYTES = 64 << 20
"""A few bytes that name a huge shape must not become a huge tensor."""
_PACKED = {"float_val": (b"\x2a", "<f4"), "double_val": (b"\x32", "<f8")}
"""Fields whose packed wire form is the array's own bytes: written in one piece instead of value by value."""


def data_type(datatype: str) -> int:
    """TensorFlow's number of a v2 datatype."""
    return _BY_DATATYPE[datatype][0]


def tf_name(datatype: str) -> str:
    """How TensorFlow's messages call a v2 datatype: FP32 is float, INT64 is int64."""
    return _TF_NAMES.get(datatype, datatype.lower())


def datatype_of(number: int) -> str | None:
    """The v2 datatype of TensorFlow's number; None for one that does not travel (complex, quantised)."""
    kind = _BY_NUMBER.get(number)
    return kind[0] if kind else None


@dataclass(frozen=True, slots=True)
class Payload:
    """The values of a TensorProto that were cut out of its message: raw content, or the rest with typed values."""

    content: memoryview | None = None
    typed: memoryview | None = None


def from_proto(name: str, proto: Any) -> tuple[str, Tensor]:
    """The v2 datatype and the values. Raises InvalidRequest with TensorFlow Serving's words."""
    datatype, made = from_proto_later(name, proto)
    return datatype, made.decode() if isinstance(made, Encoded) else made


def from_proto_later(name: str, proto: Any, payload: Payload | None = None) -> tuple[str, Tensor | Encoded]:
    """The same, but typed values are left to be decoded where they are computed."""
    kind = _BY_NUMBER.get(proto.dtype)
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if kind is None or proto.tensor_shape.unknown_rank or len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise _unreadable(name)
    datatype = kind[0]
    content = proto.tensor_content if payload is None else payload.content
    dtype = dtype_of(datatype)
    if content:
        if datatype == BYTES or len(content) != math.prod(sizes) * dtype.itemsize:
            raise _unreadable(name)
        values = np.frombuffer(content, dtype).reshape(sizes)
        if payload is None or payload.typed is None:
            return datatype, values
        held = len(content) + len(payload.typed)
        return datatype, Encoded(sizes, dtype, held, partial(_checked, name, proto, payload, values))
    if payload is not None and payload.typed is not None:
        in_place = _in_place(kind[1], sizes, dtype, payload.typed)
        if in_place is not None:
            return datatype, in_place
    held = proto.ByteSize() if payload is None else len(payload.typed or b"")
    return datatype, Encoded(sizes, dtype, held, partial(_typed_values, name, kind, proto, payload))


def _in_place(field: str, sizes: tuple[int, ...], dtype: np.dtype[np.generic], typed: memoryview) -> Tensor | None:
    """A view of typed values whose wire form is the array's own bytes; None where it is not, or where one repeats."""
    if field not in _PACKED:
        return None
    size = math.prod(sizes) * dtype.itemsize
    head = _PACKED[field][0] + packed_varint(size)
    if len(typed) != len(head) + size or typed[: len(head)] != head:
        return None
    return np.frombuffer(typed[len(head) :], dtype).reshape(sizes)


def _checked(name: str, proto: Any, payload: Payload, values: Tensor) -> Tensor:
    """The values of raw content that has typed values behind it: unread, but protobuf would look into them."""
    _whole(name, proto, payload)
    return values


def _whole(name: str, proto: Any, payload: Payload) -> Any:
    """The proto with its typed values. Raises InvalidRequest also where they are followed by what is declared anew."""
    made, content = TensorProto(), b"\0" if payload.content else b""
    made.CopyFrom(proto)
    made.tensor_content = content
    try:
        made.MergeFromString(payload.typed or b"")
    except DecodeError as error:
        raise _unreadable(name) from error
    if (made.dtype, made.tensor_shape, made.tensor_content) != (proto.dtype, proto.tensor_shape, content):
        raise _unreadable(name)
    return made


def _typed_values(name: str, kind: tuple[str, str], proto: Any, payload: Payload | None) -> Tensor:
    datatype, field = kind
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    typed = proto if payload is None else _whole(name, proto, payload)
    if datatype == BYTES:
        return _strings(name, typed, sizes)
    return _repeated(name, _typed(getattr(typed, field), datatype), sizes)


def to_proto(datatype: str, tensor: Tensor) -> Any:
    """A TensorProto with typed values."""
    proto = TensorProto()
    fill_proto(proto, datatype, tensor)
    return proto


def fill_proto(proto: Any, datatype: str, tensor: Tensor) -> None:
    """The same in a message that is there already."""
    proto.dtype, field = _BY_DATATYPE[datatype]
    for size in tensor.shape:
        proto.tensor_shape.dim.add(size=size)
    if field in _PACKED:
        tag, wire = _PACKED[field]
        raw = np.ascontiguousarray(tensor, wire).tobytes()
        proto.MergeFromString(b"".join((tag, packed_varint(len(raw)), raw)))
    elif datatype == "FP16":
        proto.half_val.extend(np.ascontiguousarray(tensor).view(np.uint16).ravel().tolist())
    else:
        getattr(proto, field).extend(tensor.ravel().tolist())


def _typed(values: Any, datatype: str) -> Tensor:
    dtype = NUMPY[datatype]
    if datatype == "FP16":
        return np.array(values, np.uint16).view(np.float16)
    return (
        np.array(values, np.int64).astype(dtype)
        if dtype.kind in "iu" and dtype.itemsize < 8
        else np.array(values, dtype)
    )


def _repeated(name: str, values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    count = math.prod(sizes)
    if values.size > count or (values.size < count and count * values.itemsize > _MOST_REPEATED_BYTES):
        raise _unreadable(name)
    if values.size < count:
        last = values[-1:] if values.size else np.zeros(1, values.dtype)
        values = np.concatenate([values, np.repeat(last, count - values.size)])
    return values.reshape(sizes)


def _strings(name: str, proto: Any, sizes: tuple[int, ...]) -> Tensor:
    items = list(proto.string_val)
    count = math.prod(sizes)
    if len(items) > count or count > max(len(items), _MOST_REPEATED_BYTES // 8) or proto.tensor_content:
        raise _unreadable(name)
    made = np.empty(count, object)
    made[:] = items + [items[-1] if items else b""] * (count - len(items))
    return made.reshape(sizes)


def _unreadable(name: str) -> InvalidRequest:
    return InvalidRequest(f"tensor parsing error: {name}")
