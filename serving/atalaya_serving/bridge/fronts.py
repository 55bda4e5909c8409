"""The inference call of either protocol as clients make it: bytes to typed request, typed reply to bytes. Pure.

Values that travel encoded stay so: decoding them may take long (remote.py).
"""

import time
from typing import Any, Protocol

from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import tfs_wire, v2_wire, wire
from atalaya_serving.bridge.tfs_upstream import PREDICTION
from atalaya_serving.bridge.v2_upstream import SERVICE
from atalaya_serving.dataplane import InferReply, InferRequest, InputTensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE
from atalaya_serving.errors import InvalidRequest, ModelNotFound, ServingError
from atalaya_serving.grpc_convert import parse_request, timeout_seconds, to_request
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.messages import PredictResponse


class Front(Protocol):
    """One protocol's inference call."""

    @property
    def method(self) -> str:
        """Its path."""

    @property
    def protocol(self) -> str:
        """What its calls are counted under."""

    def request(self, message: bytes) -> InferRequest:
        """What a message asks for; its deadline is what the message itself says. Raises ServingError."""

    def response(self, reply: InferReply) -> list[wire.Part]:
        """The parts of the message that answers."""

    def refusal(self, reply: InferReply) -> ServingError:
        """The error of a reply, in this protocol's words where its clients look at them."""


class TfsFront:
    """Predict."""

    method, protocol = f"{PREDICTION}Predict", "tfs-grpc"

    def __init__(self, labels: LabelTable) -> None:
        self._labels = labels

    def request(self, message: bytes) -> InferRequest:
        """Of a PredictRequest."""
        told, tensors = tfs_wire.read_request(message)
        spec = told.model_spec
        if not spec.name:
            raise InvalidRequest("ModelSpec has no name specified.")
        choice, version = spec.WhichOneof("version_choice"), ""
        if choice == "version":
            version = str(spec.version.value)
        elif choice == "version_label":
            version = str(self._labels.version(spec.name, spec.version_label))
        inputs = [InputTensor(name, *tensor) for name, tensor in tensors.items()]
        request = InferRequest(spec.name, version, inputs, list(told.output_filter), protocol=self.protocol)
        request.signature = spec.signature_name
        return request

    def response(self, reply: InferReply) -> list[wire.Part]:
        """A PredictResponse."""
        served = reply.served
        assert served is not None
        spec = PredictResponse().model_spec
        spec.name, spec.signature_name = served.name, reply.request.signature or DEFAULT_SIGNATURE
        spec.version.value = served.version
        return tfs_wire.write_response(spec, _outputs(reply))

    def refusal(self, reply: InferReply) -> ServingError:
        """Unknown models and versions are servables that were not found."""
        error, request = reply.error, reply.request
        assert error is not None
        if not isinstance(error, ModelNotFound):
            return error
        wanted = f"Specific({request.model}, {request.version})" if request.version else f"Latest({request.model})"
        return ModelNotFound(f"Servable not found for request: {wanted}")


class V2Front:
    """ModelInfer."""

    method, protocol = f"{SERVICE}ModelInfer", "grpc"

    def request(self, message: bytes) -> InferRequest:
        """Of a ModelInferRequest."""
        told = parse_request(message, v2_wire.CUT_FROM_BYTES)
        request = to_request(told)
        request.deadline = time.monotonic() + timeout_seconds(told.message)
        return request

    def response(self, reply: InferReply) -> list[wire.Part]:
        """A ModelInferResponse."""
        served = reply.served
        assert served is not None
        head = service_pb2.ModelInferResponse(
            model_name=served.name, model_version=served.version_text, id=reply.request.id
        )
        return v2_wire.write_response(head, _outputs(reply))

    def refusal(self, reply: InferReply) -> ServingError:
        """As it is: KServe v2 has no words of its own."""
        assert reply.error is not None
        return reply.error


def _outputs(reply: InferReply) -> list[tuple[str, str, Any]]:
    return [(spec.name, spec.datatype, tensor) for spec, tensor in zip(reply.outputs, reply.tensors, strict=True)]
