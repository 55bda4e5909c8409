"""The KServe v2 gRPC service: converts and delegates to the dataplane. ModelInfer's short way is grpc_fast.py."""

# ruff: noqa: ARG002, N802 - signatures and names are the framework's

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from queue import Empty, Queue
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.about import EXTENSIONS, SERVER_NAME, server_version
from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest
from atalaya_serving.errors import (
    InferenceFailed,
    ModelNotFound,
    ModelNotReady,
    NotSupported,
    ServingError,
    code_of,
    told_to_caller,
)
from atalaya_serving.grpc_convert import timeout_seconds, to_request, to_response
from atalaya_serving.model_config import model_config, model_statistics

MAX_STREAMS = 64
_AHEAD_IN_STREAM = 32
_STREAM_POLL_SECONDS = 0.25
_STREAM_ENDS = "this server is shutting down; open the stream at another replica, or again when it is back."

T = TypeVar("T")
_log = logging.getLogger(__name__)


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
        # Streams stay open long: threads of their own, so that they never keep a health call waiting.
        stream: Any = partial(self._stream)
        stream.experimental_thread_pool = ThreadPoolExecutor(MAX_STREAMS, thread_name_prefix="grpc-stream")
        self.ModelStreamInfer = stream

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

    @_translated
    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        """One inference, the ordinary way."""
        reply = self._dataplane.infer_now(self._request(request, context))
        if reply.error is not None:
            raise reply.error
        return to_response(reply)

    def _stream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Inferences in a stream: several in flight, answered in their order; an error ends its request only."""
        answers: Queue[tuple[Any, Future[InferReply] | ServingError] | None] = Queue(_AHEAD_IN_STREAM)
        reader = threading.Thread(target=self._read_stream, args=(requests, context, answers), daemon=True)
        reader.start()
        is_open = True
        try:
            while is_open:
                is_draining = self._dataplane.is_draining
                try:
                    item = answers.get(timeout=_STREAM_POLL_SECONDS)
                except Empty:
                    is_over = is_draining  # for the whole wait: nothing is in flight, and nothing new is accepted
                else:
                    is_open = item is not None
                    if item is not None:
                        yield _stream_response(*item)
                    is_over = is_draining and item is not None and _was_refused(item[1])
                if is_over:
                    is_open = False
                    context.abort(grpc.StatusCode.UNAVAILABLE, _STREAM_ENDS)
        finally:
            while is_open:  # the caller went away: let the reader come to its end
                is_open = answers.get() is not None

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

    def _request(self, message: Any, context: grpc.ServicerContext) -> InferRequest:
        request = to_request(message, message.raw_input_contents)
        remaining = context.time_remaining()
        request.deadline = request.arrived_at + min(
            float("inf") if remaining is None else remaining, timeout_seconds(message)
        )
        request.is_cancelled = lambda: not context.is_active()
        return request

    def _read_stream(self, requests: Iterator[Any], context: grpc.ServicerContext, answers: "Queue[Any]") -> None:
        try:
            for message in requests:
                try:
                    answers.put((message, self._dataplane.infer_later(self._request(message, context))))
                except ServingError as error:
                    answers.put((message, error))
                except Exception as error:  # noqa: BLE001 - the edge of the stream's thread: an error ends its request only
                    _log.error("a request of a stream failed outside the engine", exc_info=error)
                    failed = InferenceFailed("the server failed on this request; its log says why.")
                    answers.put((message, failed))
        except grpc.RpcError:  # the caller went away
            pass
        finally:
            answers.put(None)


_NOT_OFFERED = (
    "this server does not offer it: shared memory is not mapped (send the bytes), traces and log levels are set when it"
    " is started (--log_level)."
)


def _was_refused(answer: "Future[InferReply] | ServingError") -> bool:
    """Whether a request came too late: all that were accepted came before it, and are answered."""
    return isinstance(answer, Future) and isinstance(answer.result().error, ModelNotReady)


def _stream_response(message: Any, answer: "Future[InferReply] | ServingError") -> Any:
    if isinstance(answer, ServingError):
        error: ServingError | None = answer
    else:
        reply = answer.result()
        error = reply.error
    if error is not None:
        failed = service_pb2.ModelStreamInferResponse(error_message=f"{error}")
        failed.infer_response.id = message.id
        return failed
    response = to_response(reply)
    if "triton_enable_empty_final_response" in message.parameters:
        response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=response)
