"""The whole bridge: the fronts, the upstream, and an orderly end."""

import logging
from functools import partial

from starlette.routing import Route

from atalaya_serving.bridge.calls import Scoped, ScopedGuard
from atalaya_serving.bridge.metrics import exposition
from atalaya_serving.bridge.remote import Dialect, RemoteDataplane, RemoteModels
from atalaya_serving.bridge.services import BridgedInference, BridgedTfs, BridgeHealth, BridgeRest
from atalaya_serving.bridge.settings import TFS, BridgeSettings
from atalaya_serving.bridge.tfs_upstream import TfsDialect, TfsModels
from atalaya_serving.bridge.upstream import Upstream
from atalaya_serving.bridge.v2_upstream import V2Dialect, V2Models
from atalaya_serving.bridge.watch import Watch
from atalaya_serving.budget import MESSAGES_HELD
from atalaya_serving.grpc_server import GrpcServer, Register, add_health, add_v2
from atalaya_serving.rest_guard import RestLimits
from atalaya_serving.rest_server import RestServer
from atalaya_serving.server import Server

_log = logging.getLogger(__name__)


class Bridge(Server):
    """A bridge that can be started and stopped in any process; it runs, drains and ends as a server does."""

    def __init__(self, settings: BridgeSettings, *, fast: bool = True) -> None:
        """Bind the ports. Raises SettingsError."""
        self.settings, self._fast, self._config_poll = settings.listen, fast, None
        self._told, self._upstream = settings, Upstream(settings.upstream, fast=fast)
        self._remote, dialect = _behind(settings, self._upstream)
        self.repository = self._remote
        plane = RemoteDataplane(self._remote, self._upstream, dialect, settings.listen.queue_size)
        self.dataplane: RemoteDataplane = plane
        self.watch = Watch(self._remote, settings.models, settings.watch_seconds)
        plane.is_upstream_ready = lambda: self.watch.is_ready
        self.tfs: BridgedTfs = BridgedTfs(plane, settings.labels)
        self.grpc, self.rest = None, None
        self.bind()

    def bind(self) -> None:
        """Bind the ports, each call with what must reach the upstream. Raises SettingsError."""
        listen, plane = self.settings, self.dataplane
        if listen.grpc_port:
            self.grpc = GrpcServer(listen, plane, self.grpc_services(), fast=self._fast, interceptors=(Scoped(),))
        if listen.rest_port:
            held_bytes = MESSAGES_HELD * listen.max_message_bytes
            limits = RestLimits(listen.rest_max_requests, listen.rest_body_seconds, held_bytes)
            self.rest = RestServer(listen, ScopedGuard(self.rest_app(), plane, limits))

    def grpc_services(self) -> list[Register]:
        """The clients' protocol, and grpc.health.v1."""
        plane = self.dataplane
        health: Register = partial(add_health, health=BridgeHealth(plane, self._remote))
        if self._told.client == TFS:
            return [self.tfs.add_to, health]
        return [partial(add_v2, service=BridgedInference(plane, self._remote)), health]

    def rest_routes(self) -> list[Route]:
        """The clients' protocol, health and metrics."""
        info = {"upstream": self._told.upstream, "client": self._told.client}
        rest = BridgeRest(self.dataplane, exposition(self.dataplane, info), self.settings.max_message_bytes)
        return rest.tfs_routes(self.tfs) if self._told.client == TFS else rest.routes()

    def load(self) -> None:
        """Look at the upstream, and say how it is."""
        self.watch.start()
        if self.dataplane.is_draining:
            return
        addresses = {"grpc": self.grpc and self.grpc.address, "rest": self.rest and self.rest.address}
        told = [f"{key}={value}" for key, value in addresses.items() if value]
        state = "ready" if self.watch.is_ready else "started, but the upstream is not ready"
        _log.info(" ".join([state, *told]), extra={"upstream": self._upstream.target})

    def stop(self) -> bool:
        """Not ready first; then finish what was accepted; then end. False when a thread of ours is busy still."""
        has_ended = [super().stop(), self.watch.stop()]
        self._upstream.close()
        return all(has_ended)


def _behind(settings: BridgeSettings, upstream: Upstream) -> tuple[RemoteModels, Dialect]:
    if settings.client == TFS:
        models = V2Models(upstream)
        return models, V2Dialect(models)
    return TfsModels(upstream, settings.signature), TfsDialect(settings.signature)
