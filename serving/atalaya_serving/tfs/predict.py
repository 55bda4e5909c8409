"""Predict and GetModelMetadata: tensors in, tensors out, and what a model's signatures are."""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from atalaya_serving.dataplane import Accepted, InferReply, InferRequest, InputTensor
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, TensorSpec
from atalaya_serving.errors import InvalidRequest, PreconditionFailed, ServingError, code_of
from atalaya_serving.grpc_fast import FastCall
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.calls import Answer, Call, Calls, Ended, fill_spec
from atalaya_serving.tfs.messages import (
    GetModelMetadataResponse,
    PredictResponse,
    SignatureDef,
    SignatureDefMap,
    TensorInfo,
)
from atalaya_serving.tfs.predict_wire import WirePredict, parse_predict
from atalaya_serving.tfs.signatures import ServedSignature, signatures_of
from atalaya_serving.tfs.tensors import data_type, fill_proto, tf_name

SIGNATURE_DEF = "signature_def"


class PredictApi:
    """The calls that need no tf.Example."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def predict(self, message: Any, call: Call) -> Any:
        """A PredictResponse. Raises ServingError."""
        came: Future[Any] = Future()
        self._start(WirePredict(message), call, came.set_result)
        answer = came.result()
        if isinstance(answer, ServingError):
            raise answer
        return answer

    def predict_fast(self, message: bytes, call: FastCall, ended: Ended | None = None) -> Accepted | None:
        """Predict, the short way. Raises InvalidRequest."""
        told = call.fill(InferRequest("", "", ()), math.inf)
        given = Call(told.protocol, told.deadline, told.is_cancelled, told.arrived_at)
        wire = parse_predict(message)

        def respond(answer: Any) -> None:
            code = "OK"
            if isinstance(answer, ServingError):
                code = code_of(answer).grpc.name
                call.fail(answer)
            else:
                call.send(answer.SerializeToString())
            if ended is not None:
                ended(wire.message.model_spec, code, time.monotonic() - told.arrived_at)

        return self._start(wire, given, respond)

    def _start(self, wire: WirePredict, call: Call, respond: Callable[[Any], None]) -> Accepted | None:
        """Have `respond` called with a PredictResponse or a ServingError."""
        spec, outputs = wire.message.model_spec, list(wire.message.output_filter)

        def receive(reply: InferReply) -> None:
            respond(reply.error or _response(reply, spec.signature_name or DEFAULT_SIGNATURE))

        return self._calls.start(
            spec, call, lambda served: _request(served, call, spec.signature_name, wire.tensors(), outputs), receive
        )

    def compute(self, spec: Any, inputs: Mapping[str, tuple[str, Any]], outputs: list[str], call: Call) -> Answer:
        """The outputs by name; `inputs` maps a name to its datatype and values. Raises ServingError."""
        return self._calls.answer(
            spec, call, lambda served: _request(served, call, spec.signature_name, inputs, outputs)
        )

    def metadata(self, message: Any) -> Any:
        """A GetModelMetadataResponse. Raises ServingError."""
        if not message.HasField("model_spec"):
            raise InvalidRequest("Missing ModelSpec")
        if not message.metadata_field:
            raise InvalidRequest("GetModelMetadataRequest must specify at least one metadata_field")
        for field in message.metadata_field:
            if field != SIGNATURE_DEF:
                raise InvalidRequest(f"Metadata field {field} is not supported")
        served = self._calls.resolve(message.model_spec)
        response = GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = served.name, served.version
        response.metadata[SIGNATURE_DEF].Pack(signature_map(served))
        return response


def _request(
    served: ServedVersion, call: Call, signature_name: str, inputs: Mapping[str, tuple[str, Any]], outputs: list[str]
) -> InferRequest:
    signature = predict_signature(served, signature_name)
    _check_names(signature, set(inputs), outputs)
    request = call.request()
    request.signature = signature.name
    request.inputs = [_input(one, *inputs[one.name]) for one in signature.inputs]
    request.outputs = outputs
    return request


def _response(reply: InferReply, signature_name: str) -> Any:
    assert reply.served is not None
    response = PredictResponse()
    fill_spec(response.model_spec, reply.served, signature_name)
    for spec, tensor in zip(reply.outputs, reply.tensors, strict=True):
        fill_proto(response.outputs[spec.name], spec.datatype, tensor)
    return response


def predict_signature(served: ServedVersion, name: str) -> ServedSignature:
    """The signature that Predict names. Raises PreconditionFailed."""
    wanted = name or DEFAULT_SIGNATURE
    signature = signatures_of(served).get(wanted)
    if signature is None or signature.source is not None:
        raise PreconditionFailed(f'Serving signature key "{wanted}" not found.')
    return signature


def signature_map(served: ServedVersion) -> Any:
    """A SignatureDefMap of all a version offers."""
    told = SignatureDefMap()
    for name, signature in signatures_of(served).items():
        told.signature_def[name].CopyFrom(_signature_def(signature))
    return told


def _signature_def(signature: ServedSignature) -> Any:
    made = SignatureDef(method_name=signature.method)
    for kind, specs in ((made.inputs, signature.inputs), (made.outputs, signature.outputs)):
        for spec in specs:
            kind[spec.name].CopyFrom(_tensor_info(spec))
    return made


def _tensor_info(spec: TensorSpec) -> Any:
    """The tensor's name is that in the graph where the engine knows it: TensorFlow's end in ":0"."""
    in_graph = next((alias for alias in sorted(spec.aliases) if ":" in alias), spec.name)
    info = TensorInfo(name=in_graph, dtype=data_type(spec.datatype))
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)
    return info


def _check_names(signature: ServedSignature, given: set[str], outputs: list[str]) -> None:
    """Names as TensorFlow Serving checks them: the sets of inputs agree, each output exists and comes once."""
    wanted = {spec.name for spec in signature.inputs}
    if given != wanted:
        missing = ",".join(sorted(wanted - given))
        if len(given) == len(wanted):
            alias = sorted(wanted - given)[0]
            raise InvalidRequest(
                f"Signature input alias: {alias}(feed name: {_feed_name(signature, alias)}) not found in request and no"
                f" default value provided. Inputs expected to be in the request {{{','.join(sorted(given))}}}, or"
                " default input alias set: "
            )
        raise InvalidRequest(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({{{','.join(sorted(given))}}}) !="
            f" len({{{','.join(sorted(wanted))}}}). Sent extra: {{{','.join(sorted(given - wanted))}}}."
            f" Missing but required: {{{missing}}}."
        )
    known = [spec.name for spec in signature.outputs]
    for position, alias in enumerate(outputs):
        if alias not in known:
            raise InvalidRequest(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set"
                f" {{{','.join(sorted(known))}}}."
            )
        if alias in outputs[:position]:
            raise InvalidRequest(f"duplicate output tensor alias: {alias}")


def _feed_name(signature: ServedSignature, alias: str) -> str:
    spec = next(spec for spec in signature.inputs if spec.name == alias)
    return str(_tensor_info(spec).name)


def _input(spec: TensorSpec, datatype: str, tensor: Any) -> InputTensor:
    """Hold dtype and shape against the signature, in TensorFlow's words."""
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"Expects arg[0] to be {tf_name(spec.datatype)} but {tf_name(datatype)} is provided (input {spec.name})"
        )
    return InputTensor(spec.name, datatype, tensor)
