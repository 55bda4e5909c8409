"""The inference call through the bridge: message in, upstream, message out, on no thread that waits.

The event thread of grpcio's server reads and sends on; the thread that reads the upstream's answers writes them back
(grpc_fast.py says why; the ordinary way is here for a grpcio whose inner layer is another).
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc

from atalaya_serving.bridge.calls import Scope, current_scope, deadline_in, passed_on
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.upstream import Answer
from atalaya_serving.errors import ServingError, code_of, told_to_caller
from atalaya_serving.grpc_fast import LaneCall, lane


def attach(server: grpc.Server, method: str, hop: Hop) -> Callable[[], None] | None:
    """Take the inference call on the short way; give what to call once the server has started."""
    return lane(server, method, lambda event: _Call(event, hop).start())


def ordinary(hop: Hop) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """The inference call on grpcio's ordinary way, for a handler of bytes."""

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        told: Future[Answer] = Future()
        hop.take(message, time.monotonic(), current_scope(), told.set_result)
        got = told.result()
        if isinstance(got, ServingError):
            context.abort(code_of(got).grpc, told_to_caller(got))
            raise got
        return got

    return answer


class _Call(LaneCall):
    """One inference call."""

    __slots__ = ("_hop", "_scope")

    def __init__(self, event: Any, hop: Hop) -> None:
        super().__init__(event)
        self._hop = hop
        self._scope = Scope(deadline_in(self._deadline - self._arrived_at), passed_on(event.invocation_metadata))

    def _on_close(self, event: Any) -> Any:
        answer = super()._on_close(event)
        if self._cancelled:
            self._scope.cancel()
        return answer

    def _take(self, message: bytes) -> None:
        self._hop.take(message, self._arrived_at, self._scope, self._tell)

    def _tell(self, answer: Answer) -> None:
        if isinstance(answer, ServingError):
            self._send_error(answer)
        else:
            self._send_message(answer)
