"""The whole server: repository, dataplane, both protocols, and an orderly end.

On SIGTERM it first says that it is not ready, takes no new call, answers every accepted one (up to --drain_seconds) and
then ends. A second signal ends it at once.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.engines.base import Engine
from atalaya_serving.errors import SettingsError
from atalaya_serving.grpc_server import GrpcServer
from atalaya_serving.metrics import exposition
from atalaya_serving.repository import ModelRepository
from atalaya_serving.rest_v2 import RestService
from atalaya_serving.settings import Settings
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.config_poll import ConfigPoll
from atalaya_serving.tfs.grpc_service import add_services
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.model_config import read_monitoring_path
from atalaya_serving.tfs.rest_service import TfsRest

_log = logging.getLogger(__name__)
_REFUSAL_SECONDS = 0.2


class RestServer:
    """uvicorn in a thread of its own."""

    def __init__(self, settings: Settings, app: Starlette) -> None:
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
            timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)

    def start(self) -> None:
        """Take calls."""
        self._thread.start()

    def stop(self) -> None:
        """Take no new call, wait for the accepted ones up to the drain time."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


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
        self._settings = settings
        self.repository = ModelRepository(settings, engine)
        self.dataplane = Dataplane(self.repository)
        metrics = exposition(self.dataplane, engine) if settings.metrics else None
        service = RestService(self.dataplane, metrics, settings.max_message_bytes)
        self.tfs = TfsApi(self.dataplane, LabelTable(settings.labels), allow_new_labels=settings.tfs.allow_new_labels)
        more = [partial(add_services, api=self.tfs)]
        self.grpc = GrpcServer(settings, self.dataplane, fast=fast, more=more) if settings.grpc_port else None
        routes = TfsRest(self.tfs, service.read_body).routes()
        if settings.tfs.monitoring_config_file and (path := read_monitoring_path(settings.tfs.monitoring_config_file)):
            routes.append(Route(path, service.metrics))
        app = service.app(routes)
        self.rest = RestServer(settings, app) if settings.rest_port else None
        self._engine = engine
        told = settings.tfs
        self._config_poll = (
            ConfigPoll(told.model_config_file, told.model_config_poll_seconds, self.tfs.models)
            if told.model_config_file and told.model_config_poll_seconds
            else None
        )

    def start(self) -> None:
        """Answer health at once, then load the models, then say ready."""
        if self.grpc:
            self.grpc.start()
        if self.rest:
            self.rest.start()
        self.repository.start()
        if self._config_poll:
            self._config_poll.start()
        addresses = {"grpc": self.grpc and self.grpc.address, "rest": self.rest and self.rest.address}
        told = {key: value for key, value in addresses.items() if value}
        state = "ready" if self.dataplane.is_ready() else "started, but not every model is ready"
        _log.info(
            " ".join([state, *(f"{key}={value}" for key, value in told.items())]), extra=dict(self._engine.describe())
        )

    def stop(self) -> None:
        """Not ready first; then finish what was accepted; then end.

        New calls are refused with UNAVAILABLE for a moment before gRPC stops: a call that meets its shutdown gets
        CANCELLED, which a client does not send again elsewhere.
        """
        self.dataplane.is_draining = True
        _log.info("draining")
        if self._config_poll:
            self._config_poll.stop()
        time.sleep(_REFUSAL_SECONDS)
        self.dataplane.wait_until_idle(self._settings.drain_seconds)
        if self.grpc:
            self.grpc.stop(self._settings.drain_seconds)
        if self.rest:
            self.rest.stop()
        self.repository.stop(self._settings.drain_seconds)
        _log.info("stopped")

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        ending = threading.Event()

        def end(_signal: int, _frame: FrameType | None) -> None:
            if ending.is_set():
                os._exit(128 + _signal)
            ending.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        self.start()
        ending.wait()
        self.stop()


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
