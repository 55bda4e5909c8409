"""KServe v2 protobuf messages to and from the dataplane's types. Pure.

Large messages are cut (wire.py), and only what is left is parsed at once. Strings and typed contents are decoded by the
thread that computes, after everything that the message declares was held against the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from atalaya_serving.dataplane import InferReply, InferRequest, InputTensor
from atalaya_serving.datatypes import BYTES, Encoded, Tensor, dtype_of
from atalaya_serving.errors import InvalidRequest, NotSupported
from atalaya_serving.tensors import Buffer, check_declared, from_raw_later, of_values, to_raw
from atalaya_serving.wire import MOST_FIELDS, Cutter, Uncuttable

CUT_FROM_BYTES = 32 << 10
_CUT_INPUT_FROM_BYTES = 1 << 10
_MOST_REST_BYTES = 1 << 20
_INPUTS = 5
_RAW_INPUTS, _CONTENTS_FIELD = frozenset({7}), frozenset({5})
_NO_REQUEST = "the message is no ModelInferRequest: it is cut short or no protobuf."
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", BYTES: "bytes_contents",
}  # fmt: skip


@dataclass(slots=True)
class WireRequest:
    """A ModelInferRequest. `raw` and `contents` may be views of the message; `contents` has None where it is inside."""

    message: Any
    raw: Sequence[Buffer]
    contents: Sequence[list[memoryview] | None] = ()


def parse_request(message: bytes, cut_from: int = CUT_FROM_BYTES) -> WireRequest:
    """Parse what is small. Raises InvalidRequest."""
    try:
        if len(message) >= cut_from:
            return cut_request(message)
        request = service_pb2.ModelInferRequest.FromString(message)
    except (DecodeError, Uncuttable) as error:
        raise InvalidRequest(_NO_REQUEST) from error
    return WireRequest(request, request.raw_input_contents)


def cut_request(message: bytes) -> WireRequest:
    """Take raw and typed contents out and parse the rest. Raises InvalidRequest, Uncuttable, DecodeError."""
    cutter = Cutter()
    contents: list[list[memoryview] | None] = []

    def cut_input(one: memoryview) -> Buffer:
        if len(one) < _CUT_INPUT_FROM_BYTES:
            contents.append(None)
            return one
        made = cutter.cut(one, _CONTENTS_FIELD)
        contents.append(next(iter(made.parts.values()), None))
        return made.rest

    made = cutter.cut(memoryview(message), _RAW_INPUTS, {_INPUTS: cut_input})
    if len(made.rest) > _MOST_REST_BYTES:
        raise InvalidRequest(
            f"the request has {len(made.rest)} bytes beside its tensors; send at most {_MOST_REST_BYTES}."
        )
    raw = next(iter(made.parts.values()), [])
    return WireRequest(service_pb2.ModelInferRequest.FromString(bytes(made.rest)), raw, contents)


def to_request(wire: WireRequest) -> InferRequest:
    """The typed request; deadline and cancellation are the transport's to add. Raises InvalidRequest, NotSupported."""
    message, raw = wire.message, wire.raw
    given, outputs = message.inputs, message.outputs
    if len(given) + len(outputs) > MOST_FIELDS:
        raise InvalidRequest(f"the request names {len(given) + len(outputs)} tensors; no model has as many.")
    if raw and len(raw) != len(given):
        raise InvalidRequest(f"the request has {len(given)} inputs and {len(raw)} raw_input_contents; give one each.")
    contents = wire.contents or [None] * len(given)
    if raw:
        inputs = [_raw_input(*one) for one in zip(given, raw, contents, strict=True)]
    else:
        inputs = [typed_tensor(*one) for one in zip(given, contents, strict=True)]
    for output in outputs:
        _refuse_options(f"output {output.name!r}", output.parameters)
    return InferRequest(
        message.model_name, message.model_version, inputs, [output.name for output in outputs], message.id
    )


def timeout_seconds(message: Any) -> float:
    """Triton's request parameter `timeout` (microseconds), in seconds; infinite when it is not given."""
    if not message.parameters or "timeout" not in message.parameters:
        return math.inf
    given = message.parameters["timeout"]
    microseconds = getattr(given, given.WhichOneof("parameter_choice") or "int64_param")
    return float(microseconds) / 1e6 if isinstance(microseconds, (int, float)) and microseconds > 0 else math.inf


def _raw_input(tensor: Any, data: Buffer, contents: list[memoryview] | None) -> InputTensor:
    name, datatype = tensor.name, tensor.datatype
    _refuse_options(f"input {name!r}", tensor.parameters)
    if contents is not None or tensor.HasField("contents"):
        raise InvalidRequest(f"input {name!r} has both raw_input_contents and typed contents; give one of them.")
    return InputTensor(name, datatype, from_raw_later(name, datatype, tensor.shape, data))


def typed_tensor(tensor: Any, contents: list[memoryview] | None = None) -> InputTensor:
    """A tensor of typed contents, of a request or an answer. Raises InvalidRequest, NotSupported."""
    name, datatype = tensor.name, tensor.datatype
    _refuse_options(f"input {name!r}", tensor.parameters)
    sizes = check_declared(name, datatype, tensor.shape)
    if datatype not in _CONTENTS:
        raise InvalidRequest(f"input {name!r} is {datatype}, which has no typed contents; use raw_input_contents.")
    held = tensor.contents.ByteSize() if contents is None else sum(map(len, contents))
    decode = partial(_typed_values, name, datatype, sizes, tensor.contents if contents is None else contents)
    return InputTensor(name, datatype, Encoded(sizes, dtype_of(datatype), held, decode))


def _typed_values(name: str, datatype: str, sizes: tuple[int, ...], contents: Any) -> Tensor:
    if isinstance(contents, list):
        parts, contents = contents, service_pb2.InferTensorContents()
        try:  # each is a message of its own: joined, two damaged ones could make a whole one
            for part in parts:
                contents.MergeFromString(part)
        except DecodeError as error:
            raise InvalidRequest(_NO_REQUEST) from error
    wanted = _CONTENTS[datatype]
    if other := [field.name for field, _ in contents.ListFields() if field.name != wanted]:
        raise InvalidRequest(f"input {name!r} is {datatype} and has {other[0]}; use {wanted}.")
    values = getattr(contents, wanted)
    if datatype in ("FP32", "FP64", "BOOL"):
        values = np.asarray(values, dtype=np.float64 if datatype != "BOOL" else np.bool_)
    return of_values(name, datatype, sizes, values)


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
