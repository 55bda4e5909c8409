"""The inference call through the bridge: message in, upstream, message out, on no thread that waits.

The event thread of grpcio's server reads and sends on; the thread that reads the upstream's answers writes them back
(grpc_fast.py says why; the ordinary way is here for a grpcio whose inner layer is another).
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import Scope, current_scope, deadline_in, passed_on
from atalaya_serving.bridge.fronts import Front
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.dataplane import InferReply, InferRequest
from atalaya_serving.errors import ServingError, code_of, told_to_caller
from atalaya_serving.grpc_fast import LaneCall, lane


def attach(server: grpc.Server, front: Front, dataplane: RemoteDataplane) -> Callable[[], None] | None:
    """Take the inference call on the short way; give what to call once the server has started."""
    return lane(server, front.method, lambda event: _Call(event, front, dataplane).start())


def ordinary(front: Front, dataplane: RemoteDataplane) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """The inference call on grpcio's ordinary way, for a handler of bytes."""

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        replied: Future[InferReply] = Future()
        scope = current_scope()
        try:
            request = front.request(message)
            request.deadline = scope.deadline = min(request.deadline, scope.deadline)
        except ServingError as error:
            dataplane.refuse(InferRequest("", "", (), protocol=front.protocol), error, replied.set_result)
        else:
            dataplane.send(request, scope, replied.set_result)
        reply = replied.result()
        if reply.error is None:
            return wire.join(front.response(reply))
        refused = front.refusal(reply)
        context.abort(code_of(refused).grpc, told_to_caller(refused))
        raise refused

    return answer


class _Call(LaneCall):
    """One inference call."""

    __slots__ = ("_dataplane", "_front", "_scope")

    def __init__(self, event: Any, front: Front, dataplane: RemoteDataplane) -> None:
        super().__init__(event)
        self._front, self._dataplane = front, dataplane
        seconds = self._deadline - self._arrived_at
        self._scope = Scope(deadline_in(seconds), passed_on(event.invocation_metadata))

    def _on_close(self, event: Any) -> Any:
        answer = super()._on_close(event)
        if self._cancelled:
            self._scope.cancel()
        return answer

    def _take(self, message: bytes) -> None:
        try:
            request = self._front.request(message)
        except ServingError as error:
            refused = InferRequest("", "", (), protocol=self._front.protocol, arrived_at=self._arrived_at)
            self._dataplane.refuse(refused, error, self._receive)
            return
        request.arrived_at = self._arrived_at
        self._scope.deadline = min(self._scope.deadline, request.deadline)
        self._dataplane.send(request, self._scope, self._receive)

    def _receive(self, reply: InferReply) -> None:
        if reply.error is not None:
            self._send_error(self._front.refusal(reply))
            return
        try:
            message = wire.join(self._front.response(reply))
        except Exception as failure:  # noqa: BLE001 - the edge to foreign tensors: the caller must have an answer
            self._fail(failure)
            return
        self._send_message(message)
