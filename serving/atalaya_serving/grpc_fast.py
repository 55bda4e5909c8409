"""The short way of ModelInfer through grpcio: no thread pool, no waiting thread, no context object.

grpcio's synchronous server hands each call from its event thread to a pool thread and back three times. Here the event
thread reads the message and queues the job, and the slot's own thread sends the answer: measured, a call that computes
nothing costs 0.16 ms of CPU instead of 0.25 to 0.36. All other calls go grpcio's ordinary way.

This stands on grpcio's inner `cygrpc` layer, which is not a public API: `attach` looks before it leaps, and where the
layer is not as expected it says so and ModelInfer goes the ordinary way too (docs/decisions/0201).
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc import _common

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - a grpcio that is built otherwise
    cygrpc = None

from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest
from atalaya_serving.errors import InferenceFailed, InvalidRequest, ServingError, code_of, told_to_caller
from atalaya_serving.grpc_convert import parse_request, timeout_seconds, to_request, to_response

_log = logging.getLogger(__name__)

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_AHEAD = 16
"""Calls asked for in advance, so that a burst is picked up without a round through the event loop."""
_NOTHING: tuple[None, tuple[()]] = (None, ())
_UNSUPPORTED = (AttributeError, TypeError, ValueError)


class FastLane:
    """Answers one method on a grpc.Server's own event thread and completion queue; `take` begins a call."""

    def __init__(self, server: grpc.Server, method: str, take: Callable[[Any], None]) -> None:
        state = server._state
        self._method, self._take = method, take
        self._server, self._queue = state.server, state.completion_queue
        self._server.register_method(method)

    def start(self) -> None:
        """Ask for the first calls; the server must have started."""
        for _ in range(_AHEAD):
            self._ask()

    def _ask(self) -> None:
        self._server.request_registered_call(self._queue, self._queue, self._method, self._on_call)

    def _on_call(self, event: Any) -> tuple[None, tuple[()]]:
        if not event.success:  # the server is shutting down
            return _NOTHING
        self._take(event)
        try:
            self._ask()
        except ValueError:  # the shutdown began just now
            _log.debug("no more calls are asked for")
        return _NOTHING


class LaneCall:
    """One call from its first event to its last; a subclass takes its message, and answers when it can."""

    __slots__ = ("_arrived_at", "_call", "_cancelled", "_deadline")

    def __init__(self, event: Any) -> None:
        self._arrived_at = time.monotonic()
        self._call = event.call
        self._cancelled = False
        self._deadline = self._arrived_at + (event.call_details.deadline - time.time())

    def start(self) -> None:
        """Ask for the message, and to be told when the caller goes away."""
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_close)
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), self._on_message)

    def _on_close(self, event: Any) -> tuple[None, tuple[()]]:
        self._cancelled = event.batch_operations[0].cancelled()
        return _NOTHING

    def _on_message(self, event: Any) -> tuple[None, tuple[()]]:
        message = event.batch_operations[0].message()
        if message is None:  # the caller went away, sent nothing, or sent more than the limit: gRPC has told it
            if not self._cancelled:
                self._send_error(InvalidRequest("the call takes exactly one request message; none came."))
            return _NOTHING
        try:
            self._take(message)
        except Exception as error:  # noqa: BLE001 - the edge of grpcio's one event thread: an escape ends all calls
            self._fail(error)
        return _NOTHING

    def _take(self, message: bytes) -> None:
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        _log.error("a call failed outside the engine", exc_info=error)
        self._send_error(InferenceFailed("the server failed on this request; its log says why."))

    def _send_message(self, message: bytes) -> None:
        self._send(
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendMessageOperation(message, 0),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0),
        )

    def _send_error(self, error: ServingError) -> None:
        code = _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE[code_of(error).grpc]
        self._send(
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendStatusFromServerOperation(None, code, told_to_caller(error).encode(), 0),
        )

    def _send(self, *operations: Any) -> None:
        if not self._cancelled:
            self._call.start_server_batch(operations, _on_sent)


class _Call(LaneCall):
    """One ModelInfer on a dataplane."""

    __slots__ = ("_dataplane",)

    def __init__(self, event: Any, dataplane: Dataplane) -> None:
        super().__init__(event)
        self._dataplane = dataplane

    def _take(self, message: bytes) -> None:
        request = InferRequest("", "", ())
        try:
            parsed, raw = parse_request(message)
            request = to_request(parsed, raw)
            self._fill(request, timeout_seconds(parsed))
        except ServingError as error:
            self._fill(request, math.inf)
            self._dataplane.refuse(request, error, self._receive)
            return
        self._dataplane.infer(request, self._receive)

    def _fill(self, request: InferRequest, timeout: float) -> None:
        request.arrived_at = self._arrived_at
        request.deadline = min(self._deadline, self._arrived_at + timeout)
        request.is_cancelled = self._is_cancelled

    def _is_cancelled(self) -> bool:
        return self._cancelled

    def _receive(self, reply: InferReply) -> None:
        if reply.error is not None:
            self._send_error(reply.error)
        else:
            self._send_message(to_response(reply).SerializeToString())


def _on_sent(_event: Any) -> tuple[None, tuple[()]]:
    return _NOTHING


def attach(server: grpc.Server, dataplane: Dataplane) -> Callable[[], None] | None:
    """Take ModelInfer over on a server that has not started; give what to call once it has, as `lane` does."""
    return lane(server, METHOD, lambda event: _Call(event, dataplane).start())


def lane(server: grpc.Server, method: str, take: Callable[[Any], None]) -> Callable[[], None] | None:
    """Take a method over on a server that has not started; give what to call once it has.

    None, with a warning in the log, where this grpcio's inner layer is not the one this was written for.
    """
    wanted = ("ReceiveCloseOnServerOperation", "ReceiveMessageOperation", "SendInitialMetadataOperation",
              "SendMessageOperation", "SendStatusFromServerOperation")  # fmt: skip
    try:
        if missing := [name for name in wanted if not hasattr(cygrpc, name)]:
            raise AttributeError(missing[0])
        return FastLane(server, method, take).start
    except _UNSUPPORTED as error:
        _log.warning(
            "grpcio %s has another inner layer (%r): %s takes its ordinary way", grpc.__version__, error, method
        )
        return None
