"""What belongs to one call and must reach the upstream: its deadline, its metadata, and that the caller went away.

The lane and the streams hand a Scope on themselves. Everything else (the server's own handlers, which the bridge
reuses and which know nothing of an upstream) finds it in a context variable, which threads of a pool inherit.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol

import grpc

from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.rest_guard import RestGuard

Metadata = tuple[tuple[str, str | bytes], ...]
_OWN_TO_A_CONNECTION = ("grpc-", ":", "user-agent", "content-type", "te", "accept-encoding")
_HEADERS_PASSED_ON = frozenset({b"authorization", b"traceparent", b"tracestate", b"x-request-id"})
_YEARS = 365 * 86400.0
_CHUNKS_AHEAD = 2


class Cancellable(Protocol):
    """A call on its way."""

    def cancel(self) -> None:
        """Give it up; nothing happens to one that has ended."""


class Scope:
    """One call of a client, whatever it makes the bridge ask."""

    __slots__ = ("_held", "_lock", "deadline", "is_cancelled", "metadata")

    def __init__(self, deadline: float = NO_DEADLINE, metadata: Metadata = ()) -> None:
        self.deadline, self.metadata = deadline, metadata
        self.is_cancelled = False
        self._held: set[Cancellable] = set()
        self._lock = threading.Lock()

    def hold(self, call: Cancellable) -> None:
        """Cancel `call` with this one: later, or now when it is too late."""
        with self._lock:
            self._held.add(call)
            too_late = self.is_cancelled
        if too_late:
            call.cancel()

    def release(self, call: Cancellable) -> None:
        """`call` has ended."""
        with self._lock:
            self._held.discard(call)

    def cancel(self) -> None:
        """The caller is gone, or has its answer."""
        with self._lock:
            self.is_cancelled, held = True, list(self._held)
        for call in held:
            call.cancel()


SCOPE: ContextVar[Scope | None] = ContextVar("scope", default=None)


def current_scope() -> Scope:
    """That of the call in hand; of nobody, outside of calls."""
    return SCOPE.get() or Scope()


def passed_on(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata that is the caller's own and not the connection's."""
    return tuple((key, value) for key, value in metadata or () if not key.startswith(_OWN_TO_A_CONNECTION))


class Scoped(grpc.ServerInterceptor):  # type: ignore[misc]
    """Gives every unary call of grpcio's ordinary way its scope."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler, called inside the scope."""
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            token = SCOPE.set(scope_of(context))
            try:
                return handler.unary_unary(request, context)
            finally:
                SCOPE.reset(token)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def scope_of(context: grpc.ServicerContext) -> Scope:
    """The scope of a call on grpcio's ordinary way."""
    remaining = context.time_remaining()
    scope = Scope(deadline_in(remaining), passed_on(context.invocation_metadata()))
    if not context.add_callback(scope.cancel):
        scope.cancel()
    return scope


def deadline_in(seconds: float | None) -> float:
    """A deadline on time.monotonic's clock; gRPC tells years where there is none."""
    return NO_DEADLINE if seconds is None or seconds > _YEARS else time.monotonic() + seconds


Message = MutableMapping[str, Any]


class ScopedGuard(RestGuard):
    """Gives every HTTP request its scope too, and cancels it when the client hangs up.

    Starlette hands on that a client went away only to who asks, and a call on its way upstream asks for nothing.
    """

    async def __call__(self, kind: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        """One request."""
        given = ((key, value) for key, value in kind["headers"] if key in _HEADERS_PASSED_ON)
        scope = Scope(metadata=tuple((key.decode(), value.decode("latin-1")) for key, value in given))
        SCOPE.set(scope)
        body: asyncio.Queue[Message] = asyncio.Queue(maxsize=_CHUNKS_AHEAD)
        reader = asyncio.create_task(_read(receive, body, scope))
        try:
            await super().__call__(kind, body.get, send)
        finally:
            reader.cancel()


async def _read(receive: Callable[[], Awaitable[Message]], body: "asyncio.Queue[Message]", scope: Scope) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            await body.put(message)
            return
        await body.put(message)
