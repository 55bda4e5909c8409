"""The KServe v2 gRPC service: converts and delegates to the dataplane. Streams are in grpc_stream.py."""

# ruff: noqa: ARG002, N802 - signatures and names are the framework's

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.about import EXTENSIONS, SERVER_NAME, server_version
from atalaya_serving.dataplane import Accepted, Dataplane, InferReply
from atalaya_serving.errors import ModelNotFound, ModelNotReady, NotSupported, ServingError, code_of, told_to_caller
from atalaya_serving.grpc_convert import parse_request, timeout_seconds, to_request, to_response
from atalaya_serving.grpc_fast import FastCall, FastMethod
from atalaya_serving.grpc_stream import InferStream, begin
from atalaya_serving.model_config import model_config, model_statistics

SERVICE = "inference.GRPCInferenceService"

T = TypeVar("T")


def _translated(method: Callable[[Any, Any, grpc.ServicerContext], T]) -> Callable[[Any, Any, grpc.ServicerContext], T]:
    """Turn a ServingError into its gRPC status."""

    @wraps(method)
    def answered(self: Any, request: Any, context: grpc.ServicerContext) -> T:
        try:
            return method(self, request, context)
        except ServingError as error:
            context.abort(code_of(error).grpc, told_to_caller(error))
            raise

    return answered


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The standard's seven calls, and those extensions that have a meaning here."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._repository = dataplane.repository

    def add_to(self, server: grpc.Server) -> Mapping[str, FastMethod]:
        """Register what carries tensors, with the bytes as they come: grpcio would parse them on its event thread."""
        handlers = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.infer_bytes),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(InferStream(self._dataplane)),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        return {f"/{SERVICE}/ModelInfer": FastMethod("grpc", self.infer_fast)}

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The process answers."""
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        """All models that shall serve do, and no shutdown has begun."""
        return service_pb2.ServerReadyResponse(ready=self._dataplane.is_ready())

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Whether the version, or any, serves."""
        try:
            self._repository.resolve(request.name, request.version)
        except (ModelNotFound, ModelNotReady):
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=not self._dataplane.is_draining)

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Who this is."""
        return service_pb2.ServerMetadataResponse(name=SERVER_NAME, version=server_version(), extensions=EXTENSIONS)

    @_translated
    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Names, datatypes and shapes of the tensors."""
        served = self._repository.resolve(request.name, request.version)
        numbers = [served.version] if request.version else self._repository.ready_versions(request.name)
        answer = service_pb2.ModelMetadataResponse(
            name=served.name, versions=map(str, numbers), platform=served.model.platform
        )
        for spec in served.model.inputs:
            answer.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in served.model.outputs:
            answer.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return answer

    def infer_fast(self, message: bytes, call: FastCall) -> Accepted | None:
        """One inference, the short way. Raises InvalidRequest, NotSupported."""

        def receive(reply: InferReply) -> None:
            if reply.error is not None:
                call.fail(reply.error)
            else:
                call.send(to_response(reply).SerializeToString())

        wire = parse_request(message)
        return self._dataplane.infer(call.fill(to_request(wire), timeout_seconds(wire.message)), receive)

    @_translated
    def infer_bytes(self, message: bytes, context: grpc.ServicerContext) -> Any:
        """One inference, the ordinary way."""
        _, answer = begin(self._dataplane, message, context)
        reply = answer.result()
        if reply.error is not None:
            raise reply.error
        return to_response(reply).SerializeToString()

    @_translated
    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The model as Triton tells it; parameters carry the digest."""
        served = self._repository.resolve(request.name, request.version)
        return service_pb2.ModelConfigResponse(config=model_config(served))

    @_translated
    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Counts and times of one version, of a model's, or of all."""
        chosen = self._repository.served()
        if request.name:
            one = self._repository.resolve(request.name, request.version)
            chosen = [served for served in chosen if served.name == one.name and (not request.version or served is one)]
        return service_pb2.ModelStatisticsResponse(model_stats=[model_statistics(served) for served in chosen])

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        """All versions with their states."""
        answer = service_pb2.RepositoryIndexResponse()
        for line in self._repository.index():
            if line.state == "READY" or not request.ready:
                answer.models.add(name=line.name, version=line.version, state=line.state, reason=line.reason)
        return answer

    @_translated
    def RepositoryModelLoad(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Load a model, or look again at its versions."""
        if request.parameters:
            raise NotSupported("a load takes no parameters here; change the model's folder or the config file.")
        self._repository.load(request.model_name)
        return service_pb2.RepositoryModelLoadResponse()

    @_translated
    def RepositoryModelUnload(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Take a model out of service."""
        self._repository.unload(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    def _refuse(self, request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, _NOT_OFFERED)

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _refuse
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _refuse
    TraceSetting = LogSettings = _refuse


_NOT_OFFERED = (
    "this server does not offer it: shared memory is not mapped (send the bytes), traces and log levels are set when it"
    " is started (--log_level)."
)
