"""The whole bridge: the fronts, the upstream, and an orderly end."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from atalaya_serving.bridge import lane
from atalaya_serving.bridge.calls import Scoped
from atalaya_serving.bridge.fronts import Front, TfsFront, V2Front
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.metrics import exposition
from atalaya_serving.bridge.remote import Dialect, RemoteDataplane, RemoteModels
from atalaya_serving.bridge.services import BridgedInference, BridgedTfs, BridgeHealth, BridgeRest, scoped
from atalaya_serving.bridge.settings import TFS, BridgeSettings
from atalaya_serving.bridge.streams import METHOD as STREAM
from atalaya_serving.bridge.streams import Streams
from atalaya_serving.bridge.tfs_upstream import TfsDialect, TfsModels
from atalaya_serving.bridge.upstream import Upstream
from atalaya_serving.bridge.v2_upstream import V2Dialect, V2Models
from atalaya_serving.bridge.watch import Watch
from atalaya_serving.errors import SettingsError
from atalaya_serving.grpc_server import GenericOnly, GrpcServer, server_options
from atalaya_serving.server import RestServer, Server
from atalaya_serving.settings import Settings
from atalaya_serving.tfs.grpc_service import add_services
from atalaya_serving.tfs.labels import LabelTable

_log = logging.getLogger(__name__)
Register = Callable[[grpc.Server], None]


class BridgeGrpc(GrpcServer):
    """The listening gRPC server; it starts and stops as any."""

    def __init__(
        self, settings: Settings, dataplane: RemoteDataplane, front: Front, register: Register, *, fast: bool
    ) -> None:
        """Bind the port; `register` adds the calls beside inference. Raises SettingsError when the port is taken."""
        pool = ThreadPoolExecutor(settings.grpc_threads, thread_name_prefix="grpc")
        self._server = grpc.server(pool, interceptors=(Scoped(),), options=server_options(settings))
        service, _, method = front.method[1:].partition("/")
        hop = Hop(front, dataplane)
        infer = grpc.unary_unary_rpc_method_handler(lane.ordinary(hop))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: infer}),))
        register(self._server)
        self._start_fast = lane.attach(self._server, front.method, hop) if fast else None
        self.address = f"{settings.grpc_address}:{settings.grpc_port}"
        try:
            self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise SettingsError(
                f"gRPC cannot listen on {self.address}: the port is taken or the address is not of this machine; choose"
                " another with --port or --grpc_bind_address."
            ) from error


class Bridge(Server):
    """A bridge that can be started and stopped in any process; it runs, drains and ends as a server does."""

    def __init__(self, settings: BridgeSettings, *, fast: bool = True) -> None:
        """Bind the ports. Raises SettingsError."""
        self._settings, self._config_poll = settings.listen, None
        self._upstream = Upstream(settings.upstream, fast=fast)
        models, dialect = _behind(settings, self._upstream)
        self.repository = models
        self.dataplane: RemoteDataplane = RemoteDataplane(models, self._upstream, dialect, settings.listen.queue_size)
        self.watch = Watch(models, settings.models, settings.watch_seconds)
        self.dataplane.is_upstream_ready = lambda: self.watch.is_ready
        info = {"upstream": settings.upstream, "client": settings.client}
        rest = BridgeRest(self.dataplane, exposition(self.dataplane, info), settings.listen.max_message_bytes)
        health = BridgeHealth(self.dataplane, models)
        if settings.client == TFS:
            api = BridgedTfs(self.dataplane, settings.labels)
            front: Front = TfsFront(LabelTable(settings.labels))
            app = rest.tfs_app(api)

            def register(server: grpc.Server) -> None:
                add_services(server, api)
                health_pb2_grpc.add_HealthServicer_to_server(health, server)
        else:
            front = V2Front()
            app = rest.app()

            def register(server: grpc.Server) -> None:
                _add_v2(server, self.dataplane, models, front)
                health_pb2_grpc.add_HealthServicer_to_server(health, server)

        listen = settings.listen
        self.grpc = BridgeGrpc(listen, self.dataplane, front, register, fast=fast) if listen.grpc_port else None
        self.rest = RestServer(listen, scoped(app)) if listen.rest_port else None

    def load(self) -> None:
        """Look at the upstream, and say how it is."""
        self.watch.start()
        addresses = {"grpc": self.grpc and self.grpc.address, "rest": self.rest and self.rest.address}
        told = [f"{key}={value}" for key, value in addresses.items() if value]
        state = "ready" if self.watch.is_ready else "started, but the upstream is not ready"
        _log.info(" ".join([state, *told]), extra={"upstream": self._upstream.target})

    def stop(self) -> bool:
        """Not ready first; then finish what was accepted; then end. False when a thread of ours is busy still."""
        has_ended = super().stop()
        self.watch.stop()
        self._upstream.close()
        return has_ended


def _behind(settings: BridgeSettings, upstream: Upstream) -> tuple[RemoteModels, Dialect]:
    if settings.client == TFS:
        models = V2Models(upstream)
        return models, V2Dialect(models)
    return TfsModels(upstream, settings.signature), TfsDialect(settings.signature)


def _add_v2(server: grpc.Server, dataplane: RemoteDataplane, models: RemoteModels, front: Any) -> None:
    streams = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {STREAM: Streams(front, dataplane).handler()}
    )
    server.add_generic_rpc_handlers((streams,))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        BridgedInference(dataplane, models), GenericOnly(server)
    )
