"""Assembles the gRPC server: the v2 service, grpc.health.v1, ModelInfer's short way, limits and channel arguments."""

# ruff: noqa: N802 - signatures and names are the framework's

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from atalaya_serving import grpc_fast
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.errors import ModelNotFound, ModelNotReady, SettingsError
from atalaya_serving.grpc_v2 import InferenceService
from atalaya_serving.settings import Settings, Tls

_SERVICE = "inference.GRPCInferenceService"
_WATCH_SECONDS = 0.5
_MAX_WATCHES = 32


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1: the server as "" or by its service's name, and each model by its own name."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        watch: Any = partial(self._watch)
        watch.experimental_thread_pool = ThreadPoolExecutor(_MAX_WATCHES, thread_name_prefix="grpc-health")
        self.Watch = watch

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The state now; NOT_FOUND for a name that is neither the server nor a model."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model {request.service!r} here.")
        return health_pb2.HealthCheckResponse(status=status)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        told = None
        while context.is_active():
            status = self._status(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if self._dataplane.is_draining:
                return
            time.sleep(_WATCH_SECONDS)

    def _status(self, service: str) -> int:
        states = health_pb2.HealthCheckResponse
        if service in ("", _SERVICE):
            return int(states.SERVING if self._dataplane.is_ready() else states.NOT_SERVING)
        try:
            self._dataplane.repository.resolve(service, "")
        except ModelNotFound:
            return int(states.SERVICE_UNKNOWN)
        except ModelNotReady:
            return int(states.NOT_SERVING)
        return int(states.NOT_SERVING if self._dataplane.is_draining else states.SERVING)


class _GenericOnly:
    """Passes a service on without registering its methods, so that the short way may register ModelInfer itself."""

    def __init__(self, server: grpc.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The generic handlers answer these methods."""


def add_v2(server: grpc.Server, service: InferenceService) -> None:
    """Register KServe v2."""
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, _GenericOnly(server))


def add_health(server: grpc.Server, health: Health) -> None:
    """Register grpc.health.v1."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


Register = Callable[[grpc.Server], None]
"""Puts one service on a server that has not started."""


class GrpcServer:
    """The listening gRPC server."""

    def __init__(
        self, settings: Settings, dataplane: Dataplane, services: Sequence[Register], *, fast: bool = True
    ) -> None:
        """Bind the port; with `fast`, ModelInfer takes its short way. Raises SettingsError when the port is taken."""
        pool = ThreadPoolExecutor(settings.grpc_threads, thread_name_prefix="grpc")
        self._server = grpc.server(pool, options=_options(settings))
        for register in services:
            register(self._server)
        self._start_fast = grpc_fast.attach(self._server, dataplane) if fast else None
        self.address = f"{settings.grpc_address}:{settings.grpc_port}"
        try:
            if settings.grpc_port:
                self._listen(self.address, settings.grpc_tls)
            if settings.grpc_socket_path:
                self._listen(f"unix:{settings.grpc_socket_path}", settings.grpc_tls)
        except RuntimeError as error:
            raise SettingsError(
                f"gRPC cannot listen on {self.address}: the port is taken or the address is not of this machine; choose"
                " another with --port or --grpc_bind_address."
            ) from error

    def _listen(self, address: str, tls: Tls | None) -> None:
        if tls is None:
            self._server.add_insecure_port(address)
            return
        shown = ((tls.key, tls.certificate),)
        self._server.add_secure_port(
            address, grpc.ssl_server_credentials(shown, tls.ca or None, require_client_auth=tls.verify_client)
        )

    def start(self) -> None:
        """Take calls."""
        self._server.start()
        if self._start_fast is not None:
            self._start_fast()

    def stop(self, grace_seconds: float) -> None:
        """Take no new call, wait for the accepted ones up to `grace_seconds`, cancel the rest."""
        self._server.stop(grace_seconds).wait()


def _options(settings: Settings) -> list[tuple[str, int | str]]:
    defaults: dict[str, int | str] = {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": 0,  # two servers on one port by mistake would share the calls at random
        "grpc.http2.max_frame_size": 2**24 - 1,  # a batch of tiles comes in a few frames instead of hundreds
    }
    return list((defaults | dict(settings.grpc_channel_arguments)).items())
