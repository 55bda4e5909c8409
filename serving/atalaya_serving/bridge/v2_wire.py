"""ModelInferRequest and ModelInferResponse in bytes, to and from the dataplane's types, with tensors as views.

Reading a request is grpc_convert.py's, which the server has it from too; here is the rest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.tfs_wire import Tensors, decoded
from atalaya_serving.datatypes import BYTES, Tensor
from atalaya_serving.errors import InferenceFailed, InvalidRequest, NotSupported
from atalaya_serving.grpc_convert import typed_tensor
from atalaya_serving.tensors import Buffer, from_raw, to_raw
from atalaya_serving.wire import Cutter, Uncuttable

CUT_FROM_BYTES = 16
"""As tfs_wire.CUT_FROM_BYTES."""
_RAW_OUTPUTS = frozenset({6})
_RAW_INPUT, _RAW_OUTPUT = b"\x3a", b"\x32"


def write_request(
    model: str, version: str, inputs: Sequence[tuple[str, str, Tensor]], outputs: Sequence[str], identity: str = ""
) -> list[wire.Part]:
    """The parts of a ModelInferRequest with raw contents."""
    head = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=identity)
    for name in outputs:
        head.outputs.add(name=name)
    return _parts(head, head.inputs, inputs, _RAW_INPUT)


def write_response(head: Any, outputs: Sequence[tuple[str, str, Tensor]]) -> list[wire.Part]:
    """The parts of a ModelInferResponse with raw contents; `head` says who answers."""
    return _parts(head, head.outputs, outputs, _RAW_OUTPUT)


def read_response(message: bytes, cut_from: int = CUT_FROM_BYTES) -> tuple[Any, Tensors]:
    """What is no tensor as a ModelInferResponse, and the outputs in its order. Raises InferenceFailed."""
    try:
        response, raw = _cut_response(message, cut_from)
        if raw and len(raw) != len(response.outputs):
            raise InvalidRequest("it has not one raw content an output.")
        if not raw:  # a server may answer with typed contents, as OpenVINO Model Server does to typed requests
            return response, {one.name: (one.datatype, decoded(typed_tensor(one).data)) for one in response.outputs}
        return response, {
            one.name: (one.datatype, from_raw(one.name, one.datatype, one.shape, data))
            for one, data in zip(response.outputs, raw, strict=True)
        }
    except (DecodeError, InvalidRequest, NotSupported, Uncuttable) as error:
        raise InferenceFailed(f"the upstream's answer cannot be read ({error}); see its log.") from error


def _cut_response(message: bytes, cut_from: int) -> tuple[Any, Sequence[Buffer]]:
    """A ModelInferResponse, and its raw contents, which may be views of `message`."""
    if len(message) < cut_from:
        response = service_pb2.ModelInferResponse.FromString(message)
        return response, response.raw_output_contents
    cut = Cutter().cut(memoryview(message), _RAW_OUTPUTS)
    return service_pb2.ModelInferResponse.FromString(bytes(cut.rest)), next(iter(cut.parts.values()), [])


def _parts(head: Any, declared: Any, tensors: Sequence[tuple[str, str, Tensor]], tag: bytes) -> list[wire.Part]:
    parts: list[wire.Part] = []
    for name, datatype, tensor in tensors:
        declared.add(name=name, datatype=datatype, shape=tensor.shape)
        parts += wire.delimited(tag, to_raw(datatype, tensor) if datatype == BYTES else np.ascontiguousarray(tensor))
    return [head.SerializeToString(), *parts]
