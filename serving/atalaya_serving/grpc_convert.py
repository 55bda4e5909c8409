"""KServe v2 protobuf messages to and from the dataplane's types. Pure.

Large messages are cut by hand: upb would copy the tensors twice more (into its arena, then out as bytes), which at
1 MiB costs as much as all the rest of a call. What is odd in a message is left to protobuf to judge.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from atalaya_serving.dataplane import InferReply, InferRequest, InputTensor
from atalaya_serving.datatypes import BYTES
from atalaya_serving.errors import InvalidRequest, NotSupported
from atalaya_serving.tensors import Buffer, check_declared, from_raw, from_values, to_raw

CUT_FROM_BYTES = 32 << 10
_RAW_INPUT_TAG = 0x3A  # field 7 of ModelInferRequest, length-delimited
RAW_OUTPUT_TAG = 0x32  # field 6 of ModelInferResponse
_MOST_RAW_INPUTS = 64
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", BYTES: "bytes_contents",
}  # fmt: skip


def parse_request(message: bytes, cut_from: int = CUT_FROM_BYTES) -> tuple[Any, Sequence[Buffer]]:
    """A ModelInferRequest and its raw inputs, which may be views of `message`. Raises InvalidRequest."""
    try:
        cut = cut_raw_inputs(message) if len(message) >= cut_from else None
        if cut is not None:
            return service_pb2.ModelInferRequest.FromString(cut[0]), cut[1]
        request = service_pb2.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequest("the message is no ModelInferRequest: it is cut short or no protobuf.") from error
    return request, request.raw_input_contents


def cut_raw_inputs(message: bytes, raw_tag: int = _RAW_INPUT_TAG) -> tuple[bytes, list[memoryview]] | None:
    """Take the raw_input_contents out of a serialised request; None when it is not made as one expects.

    With RAW_OUTPUT_TAG, the raw_output_contents out of a response.
    """
    view, rest, at, end = memoryview(message), bytearray(), 0, len(message)
    raw: list[memoryview] = []
    while at < end:
        tag, start = message[at], at
        if tag >= 0x80 or tag & 7 != 2:
            return None
        length, at = _varint(message, at + 1)
        at += length
        if length < 0 or at > end:
            return None
        if len(raw) == _MOST_RAW_INPUTS:  # protobuf's own parser counts to millions faster than this loop
            return None
        if tag == raw_tag:
            raw.append(view[at - length : at])
        else:
            rest += view[start:at]
    return bytes(rest), raw


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends; -1 when there is none."""
    value = 0
    for position, byte in enumerate(message[at : at + 5]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    return -1, at


def to_request(message: Any, raw: Sequence[Buffer]) -> InferRequest:
    """The typed request; deadline and cancellation are the transport's to add. Raises InvalidRequest, NotSupported."""
    given = message.inputs
    if raw and len(raw) != len(given):
        raise InvalidRequest(f"the request has {len(given)} inputs and {len(raw)} raw_input_contents; give one each.")
    if raw:
        inputs = [_raw_input(tensor, data) for tensor, data in zip(given, raw, strict=True)]
    else:
        inputs = [typed_tensor(tensor) for tensor in given]
    for output in message.outputs:
        _refuse_options(f"output {output.name!r}", output.parameters)
    return InferRequest(
        message.model_name, message.model_version, inputs, [output.name for output in message.outputs], message.id
    )


def timeout_seconds(message: Any) -> float:
    """Triton's request parameter `timeout` (microseconds), in seconds; infinite when it is not given."""
    if not message.parameters or "timeout" not in message.parameters:
        return math.inf
    given = message.parameters["timeout"]
    microseconds = getattr(given, given.WhichOneof("parameter_choice") or "int64_param")
    return float(microseconds) / 1e6 if isinstance(microseconds, (int, float)) and microseconds > 0 else math.inf


def _raw_input(tensor: Any, data: Buffer) -> InputTensor:
    name, datatype = tensor.name, tensor.datatype
    _refuse_options(f"input {name!r}", tensor.parameters)
    if tensor.HasField("contents"):
        raise InvalidRequest(f"input {name!r} has both raw_input_contents and typed contents; give one of them.")
    return InputTensor(name, datatype, from_raw(name, datatype, tensor.shape, data))


def typed_tensor(tensor: Any) -> InputTensor:
    """A tensor of typed contents. Raises InvalidRequest, NotSupported."""
    name, datatype = tensor.name, tensor.datatype
    _refuse_options(f"input {name!r}", tensor.parameters)
    check_declared(name, datatype, tensor.shape)
    if datatype not in _CONTENTS:
        raise InvalidRequest(f"input {name!r} is {datatype}, which has no typed contents; use raw_input_contents.")
    wanted = _CONTENTS[datatype]
    if other := [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]:
        raise InvalidRequest(f"input {name!r} is {datatype} and has {other[0]}; use {wanted}.")
    values = getattr(tensor.contents, wanted)
    if datatype in ("FP32", "FP64", "BOOL"):
        values = np.asarray(values, dtype=np.float64 if datatype != "BOOL" else np.bool_)
    return InputTensor(name, datatype, from_values(name, datatype, tensor.shape, values))


def _refuse_options(what: str, parameters: Any) -> None:
    if not parameters:
        return
    if "shared_memory_region" in parameters:
        raise NotSupported(f"{what} lies in shared memory, which this server does not map; send its bytes.")
    if "classification" in parameters:
        raise NotSupported(f"{what} asks for classification, which this server does not do; take the raw output.")


def to_response(reply: InferReply) -> Any:
    """A ModelInferResponse of a reply that has no error."""
    served = reply.served
    assert served is not None
    response = service_pb2.ModelInferResponse(
        model_name=served.name, model_version=served.version_text, id=reply.request.id
    )
    for spec, tensor in zip(reply.outputs, reply.tensors, strict=True):
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=tensor.shape)
        response.raw_output_contents.append(to_raw(spec.datatype, tensor))
    return response
