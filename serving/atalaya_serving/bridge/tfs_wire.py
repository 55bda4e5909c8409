"""PredictRequest and PredictResponse in bytes, to and from the dataplane's types.

Reading stands on tfs/predict_wire.py, as the server's; tensors stay views where their bytes lie there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from atalaya_serving.bridge import wire
from atalaya_serving.datatypes import BF16, BYTES, Encoded, Tensor
from atalaya_serving.errors import InferenceFailed, InvalidRequest, NotSupported
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse
from atalaya_serving.tfs.predict_wire import WirePredict, cut_predict, parse_predict
from atalaya_serving.tfs.tensors import data_type, datatype_of
from atalaya_serving.wire import Uncuttable, packed_varint

Inputs = dict[str, tuple[str, Tensor | Encoded]]
"""Name to v2 datatype and values."""
Tensors = dict[str, tuple[str, Tensor]]
"""The same, decoded."""

CUT_FROM_BYTES = 16
"""Protobuf reads small messages quicker, but leaves no view from which a template could be learned."""
# How values are written in an answer: the tag of the typed field, as TensorFlow Serving does and as clients read it.
_ARRAY_TAGS = {"FP32": b"\x2a", "FP64": b"\x32", "BOOL": b"\x5a"}
_STRING_TAG = b"\x42"
_PACKED_TAGS = {
    **dict.fromkeys(("INT8", "INT16", "INT32", "UINT8", "UINT16"), b"\x3a"), "INT64": b"\x52", "FP16": b"\x6a",
    BF16: b"\x6a", "UINT32": b"\x82\x01", "UINT64": b"\x8a\x01",
}  # fmt: skip


def read_request(message: bytes, cut_from: int = CUT_FROM_BYTES) -> tuple[Any, Inputs]:
    """What is no tensor as a PredictRequest, and the inputs. Raises InvalidRequest with TensorFlow Serving's words."""
    told = parse_predict(message, cut_from)
    return told.message, told.tensors()


def read_response(message: bytes, cut_from: int = CUT_FROM_BYTES) -> tuple[Any, Tensors]:
    """What is no tensor as a PredictResponse, and the outputs. Raises InferenceFailed, NotSupported."""
    try:
        if len(message) >= cut_from:
            told = cut_predict(message, PredictResponse, "outputs")
        else:
            told = WirePredict(PredictResponse.FromString(message))
        outputs = told.message.outputs
        for name, proto in outputs.items():
            if datatype_of(proto.dtype) is None:
                raise NotSupported(f"output {name!r} has TensorFlow's type {proto.dtype}, which KServe v2 has not.")
        return told.message, {name: (datatype, decoded(one)) for name, (datatype, one) in told.of(outputs).items()}
    except (DecodeError, Uncuttable, InvalidRequest) as error:
        raise InferenceFailed("the upstream's answer is no PredictResponse that can be read; see its log.") from error


def decoded(tensor: Tensor | Encoded) -> Tensor:
    """The values. Raises InvalidRequest."""
    return tensor.decode() if isinstance(tensor, Encoded) else tensor


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


def _entry(tag: bytes, name: str, datatype: str, shape: Sequence[int], values: Sequence[wire.Part]) -> list[wire.Part]:
    """An entry of the map of tensors. Raises NotSupported."""
    dims = b"".join(b"".join(wire.delimited(b"\x12", b"\x08" + packed_varint(size))) for size in shape)  # type: ignore[arg-type]
    head = b"\x08" + packed_varint(data_type(datatype)) + b"\x12" + packed_varint(len(dims)) + dims
    key = name.encode()
    return wire.delimited(tag, b"\x0a" + packed_varint(len(key)) + key, *wire.delimited(b"\x12", head, *values))


def _typed(datatype: str, tensor: Tensor) -> list[wire.Part]:
    if datatype == BYTES:
        return _strings(tensor)
    if datatype in _ARRAY_TAGS:
        return wire.delimited(_ARRAY_TAGS[datatype], np.ascontiguousarray(tensor))
    bits = tensor.view(np.uint16) if datatype == "FP16" else tensor
    return wire.delimited(_PACKED_TAGS[datatype], wire.packed_varints(bits))


def _strings(tensor: Tensor) -> list[wire.Part]:
    return [part for item in tensor.ravel().tolist() for part in wire.delimited(_STRING_TAG, item)]
