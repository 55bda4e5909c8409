"""A thin client of any KServe v2 server, with several batches in flight: what `atalaya assess --endpoint` calls.

It speaks through the stubs of tritonclient (one set of stubs a process) and knows models of one input and one output.
"""

import re
import threading
from concurrent.futures import Future
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.datatypes import NUMPY, Tensor
from atalaya_serving.errors import (
    DeadlineExpired,
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    ServedVersionChanged,
    ServerUnreachable,
    ServingError,
    WrongEndpoint,
)

MAX_MESSAGE_BYTES = 2**31 - 1
# gRPC's own retries: a full queue or a server that restarts is waited for; a call is sent again only when unanswered.
_SERVICE_CONFIG = """{"methodConfig": [{"name": [{"service": "inference.GRPCInferenceService"}], "retryPolicy": {
 "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 3,
 "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}"""
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_http_proxy", 0),  # a proxy for web pages is none for a model server, least of all on this machine
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
)
_HOST = re.compile(r"\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/\[\]@]+")
_HOST_AND_PORT = re.compile(rf"(?P<host>{_HOST.pattern}):(?P<port>[0-9]{{1,5}})")
_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "xds")  # addresses that gRPC knows beside host:port
_ERRORS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAVAILABLE: ServerUnreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExpired,
    grpc.StatusCode.RESOURCE_EXHAUSTED: QueueFull,
}


class RemoteModel:
    """One model at a v2 endpoint. `submit` may be called from any thread; answers come back as futures.

    The version that serves when the client opens is the only one it accepts: an answer of another version fails with
    ServedVersionChanged.
    """

    version: str
    digest: str | None
    """`sha256:…` of the version's model files; None when the server does not tell (only ours does)."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        version: str | int | None = None,
        *,
        max_in_flight: int = 4,
        timeout_seconds: float = 60.0,
        connect_timeout_seconds: float = 10.0,
    ) -> None:
        self.endpoint, self.model = checked_endpoint(endpoint), model
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = connect_timeout_seconds
        self._slots = threading.BoundedSemaphore(max_in_flight)
        self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        try:
            self._open("" if version is None else str(version))
        except BaseException:
            self._channel.close()
            raise

    def submit(self, batch: Tensor) -> "Future[Tensor]":
        """Send one batch; waits only while `max_in_flight` batches are on their way.

        `batch` has the model's dtype and its shape with the batch in front. The future gives the output, or raises a
        ServingError.
        """
        request = self._request(batch)
        answer: Future[Tensor] = Future()
        self._slots.acquire()
        try:
            call = self._stub.ModelInfer.future(request, timeout=self._timeout_seconds)
        except BaseException:
            self._slots.release()
            raise
        call.add_done_callback(lambda done: self._finish(done, answer))
        return answer

    def predict(self, batch: Tensor) -> Tensor:
        """Send one batch and wait for its answer."""
        return self.submit(batch).result()

    def close(self) -> None:
        """Close the connection; calls still on their way fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, version: str) -> None:
        metadata = self._ask(
            self._stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=self.model, version=version)
        )
        if len(metadata.inputs) != 1:
            raise InvalidRequest(
                f"model {self.model!r} at {self.endpoint} has {len(metadata.inputs)} inputs; a scene needs a model with"
                " one image input."
            )
        self.input_name: str = metadata.inputs[0].name
        self.input_datatype: str = metadata.inputs[0].datatype
        self.input_shape: tuple[int, ...] = tuple(metadata.inputs[0].shape)
        self.output_names: tuple[str, ...] = tuple(tensor.name for tensor in metadata.outputs)
        self.version = version or _newest(metadata.versions)
        self.digest = self._served_digest()

    def _served_digest(self) -> str | None:
        try:
            answer = self._ask(
                self._stub.ModelConfig, service_pb2.ModelConfigRequest(name=self.model, version=self.version)
            )
        except InferenceFailed:
            return None
        told = answer.config.parameters
        return str(told["digest"].string_value) if "digest" in told else None

    def _ask(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._connect_timeout_seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerUnreachable(_nobody_answers(self.endpoint)) from error
            raise self._serving_error(error) from error

    def _request(self, batch: Tensor) -> Any:
        expected = NUMPY.get(self.input_datatype)
        if batch.dtype != expected:
            raise InvalidRequest(
                f"model {self.model!r} takes {self.input_datatype}, the batch is {batch.dtype}; convert it."
            )
        tensor = service_pb2.ModelInferRequest.InferInputTensor(
            name=self.input_name, datatype=self.input_datatype, shape=batch.shape
        )
        return service_pb2.ModelInferRequest(
            model_name=self.model,
            model_version=self.version,
            inputs=[tensor],
            raw_input_contents=[np.ascontiguousarray(batch).tobytes()],
        )

    def _finish(self, call: Any, answer: "Future[Tensor]") -> None:
        self._slots.release()
        try:
            answer.set_result(self._output(call.result()))
        except ServingError as error:
            answer.set_exception(error)
        except grpc.RpcError as error:
            answer.set_exception(self._serving_error(error))
        except (grpc.FutureCancelledError, ValueError, KeyError, IndexError) as error:
            answer.set_exception(InferenceFailed(f"{self.endpoint} gave no usable answer: {error!r}; see its log."))

    def _output(self, response: Any) -> Tensor:
        if response.model_version and response.model_version != self.version:
            raise ServedVersionChanged(
                f"{self.endpoint} now serves version {response.model_version} of {self.model!r}, the work began with"
                f" {self.version}; start it again."
            )
        first = response.outputs[0]
        return np.frombuffer(response.raw_output_contents[0], dtype=NUMPY[first.datatype]).reshape(tuple(first.shape))

    def _serving_error(self, error: grpc.RpcError) -> ServingError:
        code, details = error.code(), error.details()
        if code == grpc.StatusCode.UNAVAILABLE:
            details = f"{self.endpoint} does not answer ({details}); start a server (atalaya up) or correct --endpoint."
        return _ERRORS.get(code, InferenceFailed)(details)


def checked_endpoint(endpoint: str) -> str:
    """What is host:port, or another address as gRPC writes it. Raises WrongEndpoint."""
    if endpoint.partition(":")[0] in _SCHEMES:
        return endpoint
    form = "it is host:port of the server's gRPC port, such as 127.0.0.1:9000"
    if "://" in endpoint:
        raise WrongEndpoint(f"--endpoint {endpoint!r} is a URL; {form}.")
    found = _HOST_AND_PORT.fullmatch(endpoint)
    if found is None:
        raise WrongEndpoint(f"--endpoint {endpoint!r} has no port; {form}." if _HOST.fullmatch(endpoint)
                            else f"--endpoint {endpoint!r} cannot be understood; {form}.")  # fmt: skip
    if not 1 <= int(found["port"]) <= 65535:
        raise WrongEndpoint(f"--endpoint {endpoint!r}: ports are 1 to 65535; {form}.")
    return endpoint


def _nobody_answers(endpoint: str) -> str:
    if _speaks_http(endpoint):
        told = f"{endpoint} speaks HTTP, not gRPC: it is a REST port; give the gRPC port of that server as --endpoint"
        return f"{told} (atalaya up prints it)."
    return f"no KServe v2 server answers at {endpoint}; start one (atalaya up) or correct --endpoint."


def _speaks_http(endpoint: str) -> bool:
    """Whether a web server answers there, as a model server's REST port does."""
    found = _HOST_AND_PORT.fullmatch(endpoint)
    if found is None:
        return False
    with closing(HTTPConnection(found["host"].strip("[]"), int(found["port"]), timeout=2)) as connection:
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status < 500
        except (OSError, HTTPException):
            return False


def _newest(versions: Any) -> str:
    return str(max((int(v) for v in versions if v.isdecimal()), default=""))
