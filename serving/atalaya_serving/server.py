"""The whole server: repository, dataplane, both protocols, and an orderly end.

On SIGTERM it first says that it is not ready, takes no new call, answers every accepted one and then ends, all of it
within --drain_seconds. A model that is still loading is not waited for. A second signal ends it at once.
"""

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from types import FrameType

from starlette.routing import Route
from starlette.types import ASGIApp

from atalaya_serving.budget import MESSAGES_HELD
from atalaya_serving.config_poll import ConfigPoll
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.deadline import Deadline
from atalaya_serving.engines.base import Engine
from atalaya_serving.grpc_health import Health
from atalaya_serving.grpc_server import GrpcServer, Register, add_health, add_v2
from atalaya_serving.grpc_v2 import InferenceService
from atalaya_serving.metrics import exposition
from atalaya_serving.repository import ModelRepository
from atalaya_serving.rest_guard import RestGuard, RestLimits
from atalaya_serving.rest_server import RestServer
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
_CONTAINERS_UNTIL_COLLECTED = 50_000
EXIT_CUT_SHORT = 75
"""The exit code where accepted calls were not answered: sysexits' EX_TEMPFAIL, of which clients know to try again."""


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
    unanswered = 0
    """Calls that were accepted and not answered when the time of the drain was over."""

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
        self.unanswered = self.dataplane.wait_until_idle(deadline.left)
        if self.unanswered:
            _log.error(
                f"{self.unanswered} accepted calls were not answered in the {self.settings.drain_seconds:g} s of"
                " --drain_seconds; give it, and terminationGracePeriodSeconds of the pod, more than a call takes."
            )
        if self.grpc:
            self.grpc.stop(deadline.left)
        has_ended = [self.rest is None or self.rest.stop(deadline.left), self.repository.stop(deadline.left)]
        if self._config_poll:
            has_ended.append(self._config_poll.stop())
        _log.info("stopped")
        return all(has_ended)

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code: 0, or EXIT_CUT_SHORT where accepted calls were not answered."""
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
        has_ended = self.stop()
        code = EXIT_CUT_SHORT if self.unanswered else 0
        if not (has_ended and loaded.done()):
            # A thread inside an engine cannot be ended, and would crash in the engine's own end: leave without it.
            logging.shutdown()
            os._exit(code)
        loaded.result()
        return code

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
    Python looks for circular garbage more seldom: an image in JSON is ten thousand lists, for which it looked through
    the whole process fourteen times, which took as long as reading them.
    """
    gc.set_threshold(_CONTAINERS_UNTIL_COLLECTED, 10, 10)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt(m_mmap_threshold, 32 << 20)
    mallopt(m_trim_threshold, 256 << 20)
    mallopt(m_top_pad, 4 << 20)
