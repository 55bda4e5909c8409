"""grpc.health.v1: the server as "" or by its service's name, and each model by its own name.

A Watch stays open for as long as its client lives, and a client that balances over replicas has one a connection. So no
watch has a thread: one thread looks for all of them, a few tell what has changed (a client that reads nothing may hold
one of these), and a watch beyond the bound is refused, not kept waiting.
"""

# ruff: noqa: N802 - names are the framework's

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.errors import ModelNotFound, ModelNotReady

MAX_WATCHES = 4096
_SERVICE = "inference.GRPCInferenceService"
_LOOK_SECONDS = 0.5
_TELLERS = 16


@dataclass(eq=False, slots=True)
class _Watch:
    """One caller that wants to hear of changes; `send(None)` ends its call."""

    service: str
    send: Callable[[Any], None]
    told: int
    is_being_told: bool = False


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The servicer."""

    def __init__(self, dataplane: Dataplane, max_watches: int = MAX_WATCHES) -> None:
        self._dataplane, self._max_watches = dataplane, max_watches
        self._lock = threading.Lock()
        self._watches: set[_Watch] = set()
        self._looker: threading.Thread | None = None
        self._tellers = ThreadPoolExecutor(_TELLERS, thread_name_prefix="grpc-health-tell")

        def watch(request: Any, context: grpc.ServicerContext, send_response_callback: Callable[[Any], None]) -> None:
            self._begin_watch(request, context, send_response_callback)

        watch.experimental_non_blocking = True  # type: ignore[attr-defined] # as grpcio's own health servicer asks it
        self.Watch = watch

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The state now; NOT_FOUND for a name that is neither the server nor a model."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model {request.service!r} here.")
        return health_pb2.HealthCheckResponse(status=status)

    def _begin_watch(self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        watch = _Watch(request.service, send, self._status(request.service))
        if not self._remember(watch):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"{self._max_watches} watches are open, the most that this server keeps; use Check.")
            send(None)
            return
        send(health_pb2.HealthCheckResponse(status=watch.told))
        if not context.add_callback(lambda: self._forget(watch)):  # the caller has gone already
            self._forget(watch)

    def _remember(self, watch: _Watch) -> bool:
        with self._lock:
            if len(self._watches) >= self._max_watches:
                return False
            self._watches.add(watch)
            if self._looker is None:
                self._looker = threading.Thread(target=self._look, name="grpc-health", daemon=True)
                self._looker.start()
        return True

    def _forget(self, watch: _Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _look(self) -> None:
        """Have every watch told what has changed, and ended when the server drains."""
        while True:
            time.sleep(_LOOK_SECONDS)
            is_draining = self._dataplane.is_draining
            with self._lock:
                if is_draining and not self._watches:
                    self._looker = None
                    return
                watches = [watch for watch in self._watches if not watch.is_being_told]
            try:
                self._tell_changes(watches, is_last=is_draining)
            except RuntimeError:  # an interpreter that is ending lends no more threads
                if self._watches:
                    raise
                return

    def _tell_changes(self, watches: Sequence[_Watch], *, is_last: bool) -> None:
        statuses = self._statuses({watch.service for watch in watches})
        for watch in watches:
            status = statuses[watch.service]
            if is_last or status != watch.told:
                watch.is_being_told = True
                self._tellers.submit(self._tell, watch, status, is_last=is_last)

    def _tell(self, watch: _Watch, status: int, *, is_last: bool) -> None:
        try:
            if status != watch.told:
                watch.send(health_pb2.HealthCheckResponse(status=status))
                watch.told = status
            if is_last:
                self._forget(watch)
                watch.send(None)
        finally:
            watch.is_being_told = False

    def _statuses(self, services: Collection[str]) -> Mapping[str, int]:
        return {service: self._status(service) for service in services}

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
