"""The short way of inference through grpcio: no thread pool, no waiting thread, no context object.

grpcio's synchronous server hands each call from its event thread to a pool thread and back three times. Here the event
thread reads the message and queues the job, and the slot's own thread sends the answer: measured, a call that computes
nothing costs 0.16 ms of CPU instead of 0.25 to 0.36. All other calls go grpcio's ordinary way.

The event thread is one for all callers: a handler does nothing on it that grows with the size of a message, and
whatever it raises is answered and ends no thread.

This stands on grpcio's inner `cygrpc` layer, which is not a public API: `attach` looks before it leaps, and where the
layer is not as expected it says so and all methods go the ordinary way too (docs/decisions/0201).
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from grpc import _common

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - a grpcio that is built otherwise
    cygrpc = None

from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest
from atalaya_serving.errors import (
    InferenceFailed,
    InvalidRequest,
    RequestTooLarge,
    ServingError,
    code_of,
    told_to_caller,
)

_log = logging.getLogger(__name__)

_AHEAD = 16
"""Calls asked for in advance, so that a burst is picked up without a round through the event loop."""
_NOTHING: tuple[None, tuple[()]] = (None, ())
_UNSUPPORTED = (AttributeError, TypeError, ValueError)


class Accepted(Protocol):
    """A call on its way, as the dataplane's."""

    def withdraw(self) -> None:
        """The caller has gone."""


@dataclass(frozen=True, slots=True)
class FastMethod:
    """A method with one request and one answer. `handle` starts it, and may raise ServingError."""

    protocol: str
    handle: "Callable[[bytes, FastCall], Accepted | None]"


class FastLane:
    """Answers its methods on a grpc.Server's own event thread and completion queue."""

    def __init__(self, server: grpc.Server, dataplane: Dataplane, methods: Mapping[str, FastMethod]) -> None:
        state = server._state
        self._dataplane, self._methods = dataplane, methods
        self._server, self._queue = state.server, state.completion_queue
        for path in methods:
            self._server.register_method(path)

    def start(self) -> None:
        """Ask for the first calls; the server must have started."""
        for path, method in self._methods.items():
            lane = _MethodLane(self._dataplane, method)
            lane.ask = self._asking(path, lane)
            for _ in range(_AHEAD):
                lane.ask()

    def _asking(self, path: str, lane: "_MethodLane") -> Callable[[], None]:
        return lambda: self._server.request_registered_call(self._queue, self._queue, path, lane.on_call)


class _MethodLane:
    """Takes the calls of one method."""

    ask: Callable[[], None]

    def __init__(self, dataplane: Dataplane, method: FastMethod) -> None:
        self._dataplane, self._method = dataplane, method

    def on_call(self, event: Any) -> tuple[None, tuple[()]]:
        if not event.success:  # the server is shutting down
            return _NOTHING
        try:
            self.ask()
        except ValueError:  # the shutdown began just now
            _log.debug("no more calls are asked for")
        call = FastCall(event, self._dataplane, self._method)
        try:
            call.start()
        except Exception as error:  # noqa: BLE001 - the edge of grpcio's one event thread: an escape ends all calls
            call.end(error)
        return _NOTHING


class FastCall:
    """One call from its first event to its last."""

    __slots__ = (
        "_accepted",
        "_arrived_at",
        "_call",
        "_cancelled",
        "_dataplane",
        "_deadline",
        "_is_answered",
        "_method",
        "metadata",
    )

    def __init__(self, event: Any, dataplane: Dataplane, method: FastMethod) -> None:
        self._arrived_at = time.monotonic()
        self._call, self.metadata = event.call, event.invocation_metadata
        self._dataplane, self._method = dataplane, method
        self._cancelled = self._is_answered = False
        self._accepted: Accepted | None = None
        self._deadline = self._arrived_at + (event.call_details.deadline - time.time())

    def start(self) -> None:
        """Ask for the message, and for word of the end."""
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_close)
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), self._on_message)

    def fill(self, request: InferRequest, timeout_seconds: float) -> InferRequest:
        """Tell `request` what the transport knows: arrival, deadline, cancellation."""
        request.protocol = self._method.protocol
        request.arrived_at = self._arrived_at
        request.deadline = min(self._deadline, self._arrived_at + timeout_seconds)
        request.is_cancelled = self._is_cancelled
        return request

    def send(self, message: bytes) -> None:
        """Answer."""
        self._send(
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendMessageOperation(message, 0),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0),
        )

    def fail(self, error: ServingError) -> None:
        """Answer with an error."""
        code = _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE[code_of(error).grpc]
        self._send(
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendStatusFromServerOperation(None, code, told_to_caller(error).encode(), 0),
        )

    def _send(self, *operations: Any) -> None:
        if self._cancelled or self._is_answered:
            return
        self._is_answered = True
        self._call.start_server_batch(operations, _on_sent)

    def _is_cancelled(self) -> bool:
        return self._cancelled

    def _on_close(self, event: Any) -> tuple[None, tuple[()]]:
        try:
            self._cancelled = event.batch_operations[0].cancelled()
            accepted, self._accepted = self._accepted, None  # an end to the circle from a job to its call and back
            if accepted is not None and self._cancelled:
                accepted.withdraw()
        except Exception:  # noqa: BLE001 - the edge of grpcio's one event thread: an escape ends all calls
            _log.exception("the end of a call could not be noted")
        return _NOTHING

    def _on_message(self, event: Any) -> tuple[None, tuple[()]]:
        try:
            message = event.batch_operations[0].message()
            if message is None:
                self._without_message(event.success)
            elif not self._cancelled:
                self._accepted = self._method.handle(message, self)
        except ServingError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - as above: whatever it is, this call is told and the others go on
            self.end(error)
        return _NOTHING

    def end(self, error: Exception) -> None:
        """Answer a call that met what nobody thought of."""
        _log.error("a call failed outside the engine", exc_info=error)
        self._refuse(InferenceFailed("the server failed on this request; its log says why."))

    def _without_message(self, was_read: bool) -> None:
        if not was_read:  # gRPC has told the caller
            self._refuse(RequestTooLarge("the message is larger than --max_message_bytes, or broke off."))
        elif not self._cancelled:
            self._refuse(InvalidRequest("the call takes exactly one request message; none came."))

    def _refuse(self, error: ServingError) -> None:
        """Answer, and count, what reached no model."""
        try:
            request = self.fill(InferRequest("", "", ()), float("inf"))
            self._dataplane.refuse(request, error, self._receive_refusal)
        except Exception:  # noqa: BLE001 - the last resort of the event thread: an escape ends all calls
            _log.exception("a call could not be refused")

    def _receive_refusal(self, reply: InferReply) -> None:
        assert reply.error is not None
        self.fail(reply.error)


def _on_sent(_event: Any) -> tuple[None, tuple[()]]:
    return _NOTHING


def attach(server: grpc.Server, dataplane: Dataplane, methods: Mapping[str, FastMethod]) -> Callable[[], None] | None:
    """Take `methods`, by their full path, over on a server that has not started; give what to call once it has.

    None, with a warning in the log, where this grpcio's inner layer is not the one this was written for.
    """
    wanted = ("ReceiveCloseOnServerOperation", "ReceiveMessageOperation", "SendInitialMetadataOperation",
              "SendMessageOperation", "SendStatusFromServerOperation")  # fmt: skip
    try:
        if missing := [name for name in wanted if not hasattr(cygrpc, name)]:
            raise AttributeError(missing[0])
        return FastLane(server, dataplane, methods).start
    except _UNSUPPORTED as error:
        _log.warning(
            "grpcio %s has another inner layer (%r): inference takes its ordinary way", grpc.__version__, error
        )
        return None
