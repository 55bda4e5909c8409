"""PredictRequest and PredictResponse in bytes, to and from the dataplane's types.

Large messages are walked by hand so that tensors stay views; what is small or odd goes through protobuf.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from atalaya_serving.bridge import wire
from atalaya_serving.datatypes import BF16, BYTES, NUMPY, Tensor
from atalaya_serving.errors import InferenceFailed, InvalidRequest, NotSupported
from atalaya_serving.tensors import check_declared
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse, TensorProto
from atalaya_serving.tfs.tensors import data_type, datatype_of, from_proto

Tensors = dict[str, tuple[str, Tensor]]
"""Name to v2 datatype and values."""

WALK_FROM_BYTES = 16
"""Protobuf reads small messages quicker, but leaves no view from which a template could be learned."""
_INPUTS_TAG, _OUTPUTS_TAG, _KEY_TAG, _VALUE_TAG = 0x12, 0x0A, 0x0A, 0x12
# Tags of TensorProto whose value can be a tensor's own bytes, with the datatypes of which they are.
_CONTENT_TAG = 0x22
_BOOL_TAG = 0x5A
_OWN_BYTES = {0x2A: "FP32", 0x32: "FP64", _BOOL_TAG: "BOOL"}
# How values are written in an answer: the tag of the typed field, as TensorFlow Serving does and as clients read it.
_ARRAY_TAGS = {datatype: bytes((tag,)) for tag, datatype in _OWN_BYTES.items()}
_STRING_TAG = b"\x42"
_PACKED_TAGS = {
    **dict.fromkeys(("INT8", "INT16", "INT32", "UINT8", "UINT16"), b"\x3a"), "INT64": b"\x52", "FP16": b"\x6a",
    BF16: b"\x6a", "UINT32": b"\x82\x01", "UINT64": b"\x8a\x01",
}  # fmt: skip


def read_request(message: bytes, walk_from: int = WALK_FROM_BYTES) -> tuple[Any, Tensors]:
    """What is no tensor as a PredictRequest, and the inputs. Raises InvalidRequest with TensorFlow Serving's words."""
    try:
        if len(message) >= walk_from and (walked := _walk(message, _INPUTS_TAG)):
            return PredictRequest.FromString(walked[0]), walked[1]
        request = PredictRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequest("the message is no PredictRequest: it is cut short or no protobuf.") from error
    return request, {name: from_proto(name, proto) for name, proto in request.inputs.items()}


def read_response(message: bytes, walk_from: int = WALK_FROM_BYTES) -> tuple[Any, Tensors]:
    """What is no tensor as a PredictResponse, and the outputs. Raises InferenceFailed, NotSupported."""
    try:
        if len(message) >= walk_from and (walked := _walk(message, _OUTPUTS_TAG)):
            return PredictResponse.FromString(walked[0]), walked[1]
        response = PredictResponse.FromString(message)
        for name, proto in response.outputs.items():
            if datatype_of(proto.dtype) is None:
                raise NotSupported(f"output {name!r} has TensorFlow's type {proto.dtype}, which KServe v2 has not.")
        return response, {name: from_proto(name, proto) for name, proto in response.outputs.items()}
    except (DecodeError, InvalidRequest) as error:
        raise InferenceFailed("the upstream's answer is no PredictResponse that can be read; see its log.") from error


def write_request(spec: Any, inputs: Sequence[tuple[str, str, Tensor]], outputs: Sequence[str]) -> list[wire.Part]:
    """The parts of a PredictRequest with its tensors as raw content; `spec` is the ModelSpec."""
    parts: list[wire.Part] = [PredictRequest(model_spec=spec, output_filter=outputs).SerializeToString()]
    for name, datatype, tensor in inputs:
        values = _strings(tensor) if datatype == BYTES else wire.delimited(b"\x22", np.ascontiguousarray(tensor))
        parts += _entry(b"\x12", name, datatype, tensor.shape, values)
    return parts


def write_response(spec: Any, outputs: Sequence[tuple[str, str, Tensor]]) -> list[wire.Part]:
    """The parts of a PredictResponse with typed values."""
    parts: list[wire.Part] = [PredictResponse(model_spec=spec).SerializeToString()]
    for name, datatype, tensor in outputs:
        parts += _entry(b"\x0a", name, datatype, tensor.shape, _typed(datatype, tensor))
    return parts


def _walk(message: bytes, entries_tag: int) -> tuple[bytes, Tensors] | None:
    """The message without its tensors, and the tensors as views; None when anything about it is odd."""
    view, rest, tensors = memoryview(message), bytearray(), dict[str, tuple[str, Tensor]]()
    try:
        for tag, begin, value, end in wire.fields(message, 0, len(message)):
            if tag != entries_tag:
                rest += view[begin:end]
                continue
            name, at, until = _key_and_value(message, value, end)
            if name in tensors:
                return None
            tensors[name] = _tensor(name, message, at, until)
    except (wire.Odd, UnicodeDecodeError, InvalidRequest):
        return None
    return bytes(rest), tensors


def _key_and_value(message: bytes, at: int, end: int) -> tuple[str, int, int]:
    """Of a map's entry: the name, and where the TensorProto lies. Raises Odd."""
    found: dict[int, tuple[int, int]] = {}
    for tag, _, value, until in wire.fields(message, at, end):
        if tag in found:
            raise wire.Odd("a field twice")
        found[tag] = value, until
    if found.keys() != {_KEY_TAG, _VALUE_TAG}:
        raise wire.Odd("not just a key and a value")
    begin, until = found[_KEY_TAG]
    return message[begin:until].decode(), *found[_VALUE_TAG]


def _tensor(name: str, message: bytes, at: int, end: int) -> tuple[str, Tensor]:
    """A TensorProto in place: a view where its values lie there as bytes, else protobuf's reading. Raises Odd."""
    view, head = memoryview(message), bytearray()
    content: tuple[int, memoryview] | None = None
    for tag, begin, value, until in wire.fields(message, at, end):
        if tag != _CONTENT_TAG and tag not in _OWN_BYTES:
            head += view[begin:until]
        elif content is not None:
            raise wire.Odd("values twice")
        else:
            content = tag, view[value:until]
    if content is None or len(head) > 1024:  # typed values: protobuf reads them
        return from_proto(name, _proto(view[at:end]))
    proto = _proto(head)
    datatype, sizes = datatype_of(proto.dtype), [dim.size for dim in proto.tensor_shape.dim]
    tag, raw = content
    if datatype is None or datatype == BYTES or proto.tensor_shape.unknown_rank or proto.ByteSize() != len(head):
        raise wire.Odd("no plain numbers")
    sizes_known = check_declared(name, datatype, sizes)
    is_whole = len(raw) == math.prod(sizes_known) * NUMPY[datatype].itemsize
    if not is_whole or _OWN_BYTES.get(tag, datatype) != datatype:
        raise wire.Odd("values that repeat or do not fit")
    if tag == _BOOL_TAG and raw and np.frombuffer(raw, np.uint8).max() > 1:
        raise wire.Odd("a truth of several bytes")
    return datatype, np.frombuffer(raw, NUMPY[datatype]).reshape(sizes_known)


def _proto(message: Any) -> Any:
    try:
        return TensorProto.FromString(bytes(message))
    except DecodeError as error:
        raise wire.Odd("no TensorProto") from error


def _entry(tag: bytes, name: str, datatype: str, shape: Sequence[int], values: Sequence[wire.Part]) -> list[wire.Part]:
    """An entry of the map of tensors. Raises NotSupported."""
    dims = b"".join(b"".join(wire.delimited(b"\x12", b"\x08" + wire.varint(size))) for size in shape)  # type: ignore[arg-type]
    head = b"\x08" + wire.varint(data_type(datatype)) + b"\x12" + wire.varint(len(dims)) + dims
    key = name.encode()
    return wire.delimited(tag, b"\x0a" + wire.varint(len(key)) + key, *wire.delimited(b"\x12", head, *values))


def _typed(datatype: str, tensor: Tensor) -> list[wire.Part]:
    if datatype == BYTES:
        return _strings(tensor)
    if datatype in _ARRAY_TAGS:
        return wire.delimited(_ARRAY_TAGS[datatype], np.ascontiguousarray(tensor))
    bits = tensor.view(np.uint16) if datatype == "FP16" else tensor
    return wire.delimited(_PACKED_TAGS[datatype], wire.packed_varints(bits))


def _strings(tensor: Tensor) -> list[wire.Part]:
    return [part for item in tensor.ravel().tolist() for part in wire.delimited(_STRING_TAG, item)]
