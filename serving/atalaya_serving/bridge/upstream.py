"""The connection to the server behind the bridge: bytes there, bytes or a refusal back, never a waiting thread a call.

grpcio's `future` starts a thread for the first call in flight and ends it with the last, which alone takes 0.1 ms, and
keeps a context and conditions a call. So calls go through grpcio's inner channel, with one thread that reads its
events. Where that layer is not as expected, calls go the public way (docs/decisions/0230, 0201).
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from grpc import _common

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - a grpcio that is built otherwise
    cygrpc = None

from atalaya_serving.bridge.calls import Scope, current_scope
from atalaya_serving.bridge.errors import refusal
from atalaya_serving.errors import InferenceFailed, ServerUnreachable, ServingError
from atalaya_serving.executor import NO_DEADLINE

_log = logging.getLogger(__name__)
Answer = bytes | ServingError
Done = Callable[[Answer], None]
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy for web pages is none for a model server
    # An upstream that comes back shall be found in a moment, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.http2.max_frame_size", 2**24 - 1),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)
_WANTED = (
    "SendInitialMetadataOperation", "SendMessageOperation", "SendCloseFromClientOperation", "OperationType",
    "ReceiveInitialMetadataOperation", "ReceiveMessageOperation", "ReceiveStatusOnClientOperation", "CompletionType",
)  # fmt: skip


class _Way(Protocol):
    def start(self, method: str, message: bytes, scope: Scope, done: Done) -> None: ...

    def close(self) -> None: ...


class Upstream:
    """One upstream. Every method may be called from any thread."""

    def __init__(self, target: str, ask_seconds: float = 10.0, *, fast: bool = True) -> None:
        self.target, self._ask_seconds = target, ask_seconds
        channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._way: _Way = _short_way(channel) if fast else _PublicWay(channel)

    def start(self, method: str, message: bytes, scope: Scope, done: Done) -> None:
        """Send one call; `done` is called exactly once, from another thread. Cancelling `scope` cancels the call."""
        self._way.start(method, message, scope, done)

    def ask(self, method: str, request: Any, answer: Any, seconds: float | None = None) -> Any:
        """Wait for an answer of the message class `answer`, within the scope of the call in hand.

        Raises the ServingError that the upstream's refusal is.
        """
        outer = current_scope()
        latest = time.monotonic() + (self._ask_seconds if seconds is None else seconds)
        scope = Scope(min(outer.deadline, latest), outer.metadata)
        got: Future[Answer] = Future()
        outer.hold(scope)
        try:
            self.start(method, request.SerializeToString(), scope, got.set_result)
            told = got.result()
        finally:
            outer.release(scope)
        if isinstance(told, ServingError):
            raise told
        return answer_of(answer, told)

    def close(self) -> None:
        """End the connection; calls still on their way fail."""
        self._way.close()


def answer_of(kind: Any, message: bytes) -> Any:
    """A message of the class `kind` that the upstream sent. Raises InferenceFailed."""
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InferenceFailed(f"the upstream's answer is no {kind.DESCRIPTOR.name}; is it the right server?") from error


def _short_way(channel: grpc.Channel) -> _Way:
    try:
        if missing := [name for name in _WANTED if not hasattr(cygrpc, name)]:
            raise AttributeError(missing[0])
        return _ShortWay(channel)
    except AttributeError as error:
        _log.warning("grpcio %s has another inner layer (%r): calls go the public way", grpc.__version__, error)
        return _PublicWay(channel)


class _ShortWay:
    """Calls on the channel's own completion queue."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel, self._inner = channel, channel._channel
        self._call, self._next = self._inner.integrated_call, self._inner.next_call_event
        self._is_closed = False
        self._starting = threading.Lock()
        self._under_way: set[_Sent] = set()
        self._reader = threading.Thread(target=self._read_events, name="upstream", daemon=True)
        self._reader.start()

    def start(self, method: str, message: bytes, scope: Scope, done: Done) -> None:
        sent = _Sent(scope, done)
        with self._starting:
            is_sent = not self._is_closed and self._send(method, message, sent)
        if not is_sent:
            done(ServerUnreachable("the bridge is shutting down; send the call again."))
            return
        scope.hold(sent)
        if sent.is_ended:
            scope.release(sent)

    def _send(self, method: str, message: bytes, sent: "_Sent") -> bool:
        """Whether the channel took it."""
        scope = sent.scope
        operations = (
            cygrpc.SendInitialMetadataOperation(scope.metadata or None, 0),
            cygrpc.SendMessageOperation(message, 0),
            cygrpc.SendCloseFromClientOperation(0),
            cygrpc.ReceiveInitialMetadataOperation(0),
            cygrpc.ReceiveMessageOperation(0),
            cygrpc.ReceiveStatusOnClientOperation(0),
        )
        deadline = None if scope.deadline == NO_DEADLINE else time.time() + scope.deadline - time.monotonic()
        self._under_way.add(sent)
        try:
            sent.call = self._call(
                cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS, method.encode(), None, deadline, None, None,
                ((operations, sent),),
            )  # fmt: skip
        except ValueError:
            return False
        finally:
            if sent.call is None:
                self._under_way.discard(sent)
        return True

    def close(self) -> None:
        """The reader goes first: closing a channel waits for the events of its calls, and takes their queue away."""
        with self._starting:
            if not self._is_closed:
                self._is_closed = True
                for sent in list(self._under_way):
                    sent.cancel("the bridge is shutting down")
                self._send("/", b"", _Sent(Scope(time.monotonic()), _ignore))  # ends at once, and wakes the reader
        self._reader.join()
        self._channel.close()

    def _read_events(self) -> None:
        while not self._is_closed or self._under_way:
            event = self._next()
            if event.completion_type != cygrpc.CompletionType.operation_complete:
                continue
            try:
                event.tag.finish(event)
            except Exception:  # noqa: BLE001 - the edge of the one thread that reads answers: an escape ends all calls
                _log.exception("an answer of the upstream could not be handled")
            self._under_way.discard(event.tag)


class _Sent:
    """One call on the short way."""

    __slots__ = ("_done", "call", "is_ended", "scope")

    def __init__(self, scope: Scope, done: Done) -> None:
        self.scope, self._done = scope, done
        self.is_ended = False
        self.call: Any = None

    def cancel(self, why: str = "the caller went away") -> None:
        """Give the call up."""
        if not self.is_ended and self.call is not None:
            self.call.cancel(cygrpc.StatusCode.cancelled, why)

    def finish(self, event: Any) -> None:
        """The call has ended: tell, with the message where all is well."""
        self.is_ended = True
        self.scope.release(self)
        message: bytes | None = None
        code, details = grpc.StatusCode.UNKNOWN, b""
        for operation in event.batch_operations:
            kind = operation.type()
            if kind == cygrpc.OperationType.receive_message:
                message = operation.message()
            elif kind == cygrpc.OperationType.receive_status_on_client:
                code = _common.CYGRPC_STATUS_CODE_TO_STATUS_CODE.get(operation.code(), grpc.StatusCode.UNKNOWN)
                details = operation.details() or b""
        if code != grpc.StatusCode.OK:
            self._done(refusal(code, _text(details), is_callers_wish=self.scope.is_cancelled))
        elif message is None:
            self._done(InferenceFailed("the upstream ended the call without an answer; see its log."))
        else:
            self._done(message)


def _ignore(_answer: Answer) -> None:
    """Nobody asked."""


def _text(details: str | bytes) -> str:
    return details if isinstance(details, str) else details.decode("utf-8", "replace")


class _PublicWay:
    """Calls by grpcio's public API."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, grpc.UnaryUnaryMultiCallable] = {}

    def start(self, method: str, message: bytes, scope: Scope, done: Done) -> None:
        call_method = self._methods.get(method)
        if call_method is None:
            call_method = self._methods[method] = self._channel.unary_unary(method)
        timeout = None if scope.deadline == NO_DEADLINE else scope.deadline - time.monotonic()
        try:
            call = call_method.future(message, timeout=timeout, metadata=scope.metadata or None)
        except ValueError:  # the channel was closed just now
            done(ServerUnreachable("the bridge is shutting down; send the call again."))
            return
        scope.hold(call)

        def finish(ended: Any) -> None:
            scope.release(call)
            if ended.code() == grpc.StatusCode.OK:
                done(ended.result())
            else:
                done(refusal(ended.code(), ended.details() or "", is_callers_wish=scope.is_cancelled))

        call.add_done_callback(finish)

    def close(self) -> None:
        self._channel.close()
