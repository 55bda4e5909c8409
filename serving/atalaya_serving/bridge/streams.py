"""ModelStreamInfer over an upstream without streams: each request is a call of its own, several are on their way."""

from collections.abc import Iterator
from concurrent.futures import Future
from queue import Queue
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import SCOPE, scope_of
from atalaya_serving.bridge.fronts import V2Front
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.dataplane import InferReply
from atalaya_serving.grpc_stream import Begun, InferStream

_RESPONSE_TAG = b"\x12"
_FINAL = "triton_enable_empty_final_response"


class Streams(InferStream):
    """Order, bounds and end are the server's; a tensor is copied once, into the message that leaves."""

    def __init__(self, front: V2Front, dataplane: RemoteDataplane) -> None:
        super().__init__(dataplane)
        self._front = front

    def _read(self, messages: Iterator[bytes], context: grpc.ServicerContext, answers: "Queue[Begun | None]") -> None:
        SCOPE.set(scope_of(context))  # the thread is the stream's own
        super()._read(messages, context, answers)

    def response(self, message: Any, answer: "Future[InferReply]") -> bytes:
        """The message that answers a request, once it is there."""
        reply = answer.result()
        if reply.error is not None:
            return super().response(message, answer)
        parts = self._front.response(reply)
        if _FINAL in message.parameters:
            last = service_pb2.ModelInferResponse()
            last.parameters["triton_final_response"].bool_param = True
            parts.append(last.SerializeToString())  # protobuf merges what follows into what was before
        return wire.join(wire.delimited(_RESPONSE_TAG, *parts))
