"""PredictionService and ModelService over gRPC: converts and delegates. Messages alone; no generated stubs."""

import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from atalaya_serving.errors import ServingError, code_of
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call
from atalaya_serving.tfs.messages import SERVICES

Method = Callable[[Any, Call], Any]


def add_services(server: grpc.Server, api: TfsApi) -> None:
    """Register both services on a server that has not started."""
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
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                _answered(method),
                request_deserializer=GetMessageClass(descriptor.methods_by_name[name].input_type).FromString,
                response_serializer=GetMessageClass(descriptor.methods_by_name[name].output_type).SerializeToString,
            )
            for name, method in by_name.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(descriptor.full_name, handlers),))


def _answered(method: Method) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Turn a ServingError into its gRPC status."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        remaining = context.time_remaining()
        deadline = NO_DEADLINE if remaining is None else time.monotonic() + remaining
        try:
            return method(request, Call("tfs-grpc", deadline, lambda: not context.is_active()))
        except ServingError as error:
            context.abort(code_of(error).grpc, str(error))
            raise

    return answer
