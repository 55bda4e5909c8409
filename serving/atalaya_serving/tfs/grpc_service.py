"""PredictionService and ModelService over gRPC: converts and delegates. Messages alone; no generated stubs."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from atalaya_serving.errors import InvalidRequest, ServingError, code_of, told_to_caller
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.grpc_fast import FastMethod
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call, Ended
from atalaya_serving.tfs.messages import SERVICES

_PROTOCOL = "tfs-grpc"
_INFERENCES = frozenset({"PredictRequest", "ClassificationRequest", "RegressionRequest", "MultiInferenceRequest"})
Method = Callable[[Any, Call], Any]
Watch = Callable[[str, Any, str, float], None]
"""Told of each call that ended and could be read: its method, its ModelSpec, the status' name, and the seconds."""


def add_fast_services(server: grpc.Server, api: TfsApi, watch: Watch | None = None) -> Mapping[str, FastMethod]:
    """Register both services; Predict may take the short way.

    Handlers are given bytes: grpcio would parse a message on the one thread that reads all calls.
    """
    for (service, name), method, kind in _methods(api):
        told = partial(watch, name) if watch else None
        handler = grpc.unary_unary_rpc_method_handler(_answered(_watched(method, told), kind, api))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    predict = partial(api.predictions.predict_fast, ended=partial(watch, "Predict") if watch else None)
    return {f"/{SERVICES['PredictionService'].full_name}/Predict": FastMethod(_PROTOCOL, predict)}


def _methods(api: TfsApi) -> Iterator[tuple[tuple[str, str], Method, Any]]:
    """Service and name of each method, what answers it, and the class of its requests."""
    methods: dict[str, dict[str, Method]] = {
        "PredictionService": {
            "Predict": api.predict,
            "Classify": api.classify,
            "Regress": api.regress,
            "MultiInference": api.multi_inference,
            "GetModelMetadata": api.metadata,
        },
        "ModelService": {"GetModelStatus": api.status, "HandleReloadConfigRequest": api.reload_config},
    }
    for service, by_name in methods.items():
        descriptor = SERVICES[service]
        for name, method in by_name.items():
            yield (descriptor.full_name, name), method, GetMessageClass(descriptor.methods_by_name[name].input_type)


def _watched(method: Method, ended: Ended | None) -> Method:
    if ended is None:
        return method

    def answer(request: Any, call: Call) -> Any:
        code = "OK"
        try:
            return method(request, call)
        except ServingError as error:
            code = code_of(error).grpc.name
            raise
        finally:
            ended(getattr(request, "model_spec", None), code, time.monotonic() - call.arrived_at)

    return answer


def _answered(method: Method, kind: Any, api: TfsApi) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """Bytes to bytes; a ServingError becomes its gRPC status."""

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        remaining = context.time_remaining()
        deadline = NO_DEADLINE if remaining is None else time.monotonic() + remaining
        call = Call(_PROTOCOL, deadline, lambda: not context.is_active())
        try:
            return bytes(method(_parsed(message, kind, call, api), call).SerializeToString())
        except ServingError as error:
            context.abort(code_of(error).grpc, told_to_caller(error))
            raise

    return answer


def _parsed(message: bytes, kind: Any, call: Call, api: TfsApi) -> Any:
    """The request; one that cannot be read is counted where it asks for an inference."""
    try:
        return kind.FromString(message)
    except DecodeError as error:
        refused = InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}: {error}.")
        if kind.DESCRIPTOR.name in _INFERENCES:
            api.calls.count_refused(call, refused)
        raise refused from error
