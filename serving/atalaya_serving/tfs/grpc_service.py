"""PredictionService and ModelService over gRPC: converts and delegates. Messages alone; no generated stubs."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from atalaya_serving.errors import InvalidRequest, ServingError, code_of, told_to_caller
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.grpc_fast import FastMethod
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call
from atalaya_serving.tfs.messages import SERVICES

Method = Callable[[Any, Call], Any]


def add_services(server: grpc.Server, api: TfsApi) -> None:
    """Register both services on a server that has not started; handlers are given messages."""
    for name, method, kind in _methods(api):
        _add(
            server,
            name,
            grpc.unary_unary_rpc_method_handler(
                _answered(method),
                request_deserializer=kind.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            ),
        )


def add_fast_services(server: grpc.Server, api: TfsApi) -> Mapping[str, FastMethod]:
    """The same; Predict may take the short way, and no message is parsed on the thread that reads all calls."""
    for name, method, kind in _methods(api):
        _add(server, name, grpc.unary_unary_rpc_method_handler(_answered(_parsed(method, kind))))
    return {f"/{SERVICES['PredictionService'].full_name}/Predict": FastMethod("tfs-grpc", api.predictions.predict_fast)}


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


def _add(server: grpc.Server, name: tuple[str, str], handler: grpc.RpcMethodHandler) -> None:
    service, method = name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


def _parsed(method: Method, kind: Any) -> Method:
    def answer(message: bytes, call: Call) -> Any:
        try:
            request = kind.FromString(message)
        except DecodeError as error:
            raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}: {error}.") from error
        return method(request, call).SerializeToString()

    return answer


def _answered(method: Method) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Turn a ServingError into its gRPC status."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        remaining = context.time_remaining()
        deadline = NO_DEADLINE if remaining is None else time.monotonic() + remaining
        try:
            return method(request, Call("tfs-grpc", deadline, lambda: not context.is_active()))
        except ServingError as error:
            context.abort(code_of(error).grpc, told_to_caller(error))
            raise

    return answer
