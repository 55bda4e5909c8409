"""Assembles the gRPC server: the v2 service, grpc.health.v1, inference's short way, limits and channel arguments."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from atalaya_serving import grpc_fast
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.errors import SettingsError
from atalaya_serving.grpc_fast import FastMethod
from atalaya_serving.grpc_health import Health
from atalaya_serving.grpc_v2 import InferenceService
from atalaya_serving.settings import Settings, Tls

Register = Callable[[grpc.Server], Mapping[str, FastMethod] | None]
"""Registers a service, and gives those of its methods that may take the short way, by their full path."""


class _GenericOnly:
    """Passes a service on without registering its methods, so that the short way may register ModelInfer itself."""

    def __init__(self, server: grpc.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The generic handlers answer these methods."""


def add_v2(server: grpc.Server, service: InferenceService) -> Mapping[str, FastMethod]:
    """Register KServe v2; ModelInfer may take the short way."""
    methods = service.add_to(server)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, _GenericOnly(server))
    return methods


def add_health(server: grpc.Server, health: Health) -> None:
    """Register grpc.health.v1."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


class GrpcServer:
    """The listening gRPC server."""

    def __init__(
        self,
        settings: Settings,
        dataplane: Dataplane,
        services: Sequence[Register],
        *,
        fast: bool = True,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
    ) -> None:
        """Bind the port; with `fast`, what can takes the short way, which no interceptor sees.

        Raises SettingsError when the port is taken.
        """
        pool = ThreadPoolExecutor(settings.grpc_threads, thread_name_prefix="grpc")
        self._server = grpc.server(pool, interceptors=interceptors, options=_options(settings))
        methods: dict[str, FastMethod] = {}
        for register in services:
            methods |= register(self._server) or {}
        self._start_fast = grpc_fast.attach(self._server, dataplane, methods) if fast and methods else None
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
