"""The whole server: repository, dataplane, both protocols, and an orderly end.

On SIGTERM it first says that it is not ready, takes no new call, answers every accepted one and then ends, all of it
within --drain_seconds. A model that is still loading is not waited for. A second signal ends it at once.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from types import FrameType

import uvicorn
from starlette.routing import Route
from starlette.types import ASGIApp

from atalaya_serving.budget import MESSAGES_HELD
from atalaya_serving.config_poll import ConfigPoll
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.deadline import Deadline
from atalaya_serving.engines.base import Engine
from atalaya_serving.errors import SettingsError
from atalaya_serving.grpc_health import Health
from atalaya_serving.grpc_server import GrpcServer, Register, add_health, add_v2
from atalaya_serving.grpc_v2 import InferenceService
from atalaya_serving.metrics import exposition
from atalaya_serving.repository import ModelRepository
from atalaya_serving.rest_guard import RestGuard, RestLimits
from atalaya_serving.rest_v2 import RestService, application
from atalaya_serving.settings import Settings
from atalaya_serving.stats import VersionStats
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.grpc_service import add_fast_services
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.model_config import read_model_config, read_monitoring_path
from atalaya_serving.tfs.rest_service import TfsRest

_log = logging.getLogger(__name__)
_REFUSAL_SECONDS = 0.2
_UVICORN_SECONDS = 1.0  # what uvicorn takes to notice, and to end what it cancelled


class RestServer:
    """uvicorn in a thread of its own."""

    def __init__(self, settings: Settings, app: RestGuard) -> None:
        """Bind the port. Raises SettingsError when it is taken."""
        self.address = f"{settings.rest_address}:{settings.rest_port}"
        try:
            self._socket = _listener(settings.rest_address, settings.rest_port)
        except OSError as error:
            raise SettingsError(
                f"REST cannot listen on {self.address}: {error.strerror}; choose another with --rest_port or"
                " --rest_bind_address."
            ) from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http="httptools",
            ws="none",
            server_header=False,
        )
        self._guard, self._server = app, uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)

    def start(self) -> None:
        """Take calls."""
        self._thread.start()

    def stop(self, grace_seconds: float) -> bool:
        """Take no new call, wait for the accepted ones up to `grace_seconds`. False when one could not be ended."""
        self._guard.end_reading()
        self._server.config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment] # asyncio's timeout
        self._server.should_exit = True
        self._thread.join(grace_seconds + _UVICORN_SECONDS)
        self._socket.close()
        return not self._thread.is_alive()


def _listener(address: str, port: int) -> socket.socket:
    """A bound socket. It names its protocol, else asyncio leaves Nagle's algorithm on: 40 ms an answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


class Server:
    """A server that can be started and stopped in any process; `run` makes it the process."""

    def __init__(self, settings: Settings, engine: Engine, *, fast: bool = True) -> None:
        """Bind the ports; load nothing yet. Raises SettingsError."""
        self.settings, self._engine, self._fast = settings, engine, fast
        self.repository = ModelRepository(settings, engine, self.new_stats)
        self.dataplane = Dataplane(self.repository)
        self.tfs = TfsApi(self.dataplane, LabelTable(settings.labels), allow_new_labels=settings.tfs.allow_new_labels)
        self.grpc: GrpcServer | None = None
        self.rest: RestServer | None = None
        if self.listens_while_loading:
            self.bind()
        self._config_poll = self.config_poll()

    listens_while_loading = True
    """Whether the ports are open before the models are loaded, and health can tell so."""

    def bind(self) -> None:
        """Bind the ports. Raises SettingsError."""
        settings = self.settings
        if settings.grpc_port or settings.grpc_socket_path:
            self.grpc = GrpcServer(settings, self.dataplane, self.grpc_services(), fast=self._fast)
        if settings.rest_port:
            held_bytes = MESSAGES_HELD * settings.max_message_bytes
            limits = RestLimits(settings.rest_max_requests, settings.rest_body_seconds, held_bytes)
            self.rest = RestServer(settings, RestGuard(self.rest_app(), self.dataplane, limits))

    def grpc_services(self) -> list[Register]:
        """What is offered over gRPC."""
        return [
            partial(add_v2, service=InferenceService(self.dataplane)),
            partial(add_health, health=Health(self.dataplane)),
            partial(add_fast_services, api=self.tfs),
        ]

    def rest_app(self) -> ASGIApp:
        """What answers REST."""
        return application(self.rest_routes())

    def rest_routes(self) -> list[Route]:
        """What is offered over REST."""
        settings = self.settings
        metrics = exposition(self.dataplane, self._engine) if settings.metrics else None
        service = RestService(self.dataplane, metrics, settings.max_message_bytes)
        routes = [*service.routes(), *TfsRest(self.tfs, self.dataplane, service.read_body).routes()]
        if settings.tfs.monitoring_config_file and (path := read_monitoring_path(settings.tfs.monitoring_config_file)):
            routes.append(Route(path, service.metrics))
        return routes

    def new_stats(self, _model: str) -> VersionStats:
        """The books of a new version."""
        return VersionStats()

    def config_poll(self) -> ConfigPoll | None:
        """What follows a config file."""
        file, seconds = self.settings.tfs.model_config_file, self.settings.tfs.model_config_poll_seconds
        if not (file and seconds):
            return None
        return ConfigPoll(file, seconds, lambda: self.tfs.models.apply(read_model_config(file)))

    def start(self) -> None:
        """Answer health at once, then load the models, then say ready."""
        self.listen()
        self.load()

    def listen(self) -> None:
        """Answer calls; no model is ready yet."""
        if self.grpc:
            self.grpc.start()
        if self.rest:
            self.rest.start()

    def load(self) -> None:
        """Load the models, then say ready; ends early when the server is told to end."""
        self.repository.start()
        if self.dataplane.is_draining:
            return
        if self._config_poll:
            self._config_poll.start()
        addresses = {"grpc": self.grpc and self.grpc.address, "rest": self.rest and self.rest.address}
        told = {key: value for key, value in addresses.items() if value}
        state = "ready" if self.dataplane.is_ready() else "started, but not every model is ready"
        _log.info(
            " ".join([state, *(f"{key}={value}" for key, value in told.items())]), extra=dict(self._engine.describe())
        )

    def stop(self) -> bool:
        """Not ready first; then finish what was accepted; then end. All of it shares the time of --drain_seconds.

        New calls are refused with UNAVAILABLE for a moment before gRPC stops: a call that meets its shutdown gets
        CANCELLED, which a client does not send again elsewhere. False when a thread of ours is busy still.
        """
        deadline = Deadline(self.settings.drain_seconds)
        self.dataplane.is_draining = True
        _log.info("draining")
        time.sleep(min(_REFUSAL_SECONDS, deadline.left))
        self.dataplane.wait_until_idle(deadline.left)
        if self.grpc:
            self.grpc.stop(deadline.left)
        has_ended = [self.rest is None or self.rest.stop(deadline.left), self.repository.stop(deadline.left)]
        if self._config_poll:
            has_ended.append(self._config_poll.stop())
        _log.info("stopped")
        return all(has_ended)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        ending = threading.Event()

        def end(_signal: int, _frame: FrameType | None) -> None:
            if ending.is_set():
                os._exit(128 + _signal)
            ending.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        self.listen()
        loaded = self._load_aside(ending)
        ending.wait()
        if not (self.stop() and loaded.done()):
            # A thread inside an engine cannot be ended, and would crash in the engine's own end: leave without it.
            logging.shutdown()
            os._exit(0)
        loaded.result()

    def _load_aside(self, ending: threading.Event) -> "Future[None]":
        """Load in a thread, so that signals are heard meanwhile; a failure ends the server."""
        loaded: Future[None] = Future()

        def load() -> None:
            try:
                self.load()
            except BaseException as error:  # noqa: BLE001 - the edge of a thread: `run` raises it
                loaded.set_exception(error)
                ending.set()
            else:
                loaded.set_result(None)

        threading.Thread(target=load, name="load", daemon=True).start()
        return loaded


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving it back after every large message and faulting it in again.

    At 1 MiB a request that is a third of the server's own time. It costs up to a few tens of MiB of resident memory.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt(m_mmap_threshold, 32 << 20)
    mallopt(m_trim_threshold, 256 << 20)
    mallopt(m_top_pad, 4 << 20)
