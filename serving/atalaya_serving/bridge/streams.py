"""ModelStreamInfer over an upstream that has no streams: each request is a call of its own, several are on their way,
answers come in the order of the requests, and an error ends its request only."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Queue
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import Scope, scope_of
from atalaya_serving.bridge.fronts import V2Front
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.dataplane import InferReply, InferRequest
from atalaya_serving.errors import ServingError
from atalaya_serving.grpc_v2 import MAX_STREAMS

METHOD = "ModelStreamInfer"
_AHEAD = 32
_RESPONSE_TAG = b"\x12"
_FINAL = "triton_enable_empty_final_response"

Waiting = tuple[Any, "Future[InferReply]"]


class Streams:
    """The handler."""

    def __init__(self, front: V2Front, dataplane: RemoteDataplane) -> None:
        self._front, self._dataplane = front, dataplane

    def handler(self) -> grpc.RpcMethodHandler:
        """Of bytes, on threads of its own: streams stay open long."""
        stream: Any = partial(self._stream)
        stream.experimental_thread_pool = ThreadPoolExecutor(MAX_STREAMS, thread_name_prefix="grpc-stream")
        return grpc.stream_stream_rpc_method_handler(stream)

    def _stream(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        answers: Queue[Waiting | None] = Queue(_AHEAD)
        reader = threading.Thread(target=self._read, args=(messages, scope_of(context), answers), daemon=True)
        reader.start()
        is_open = True
        try:
            while is_open:
                item = answers.get()
                is_open = item is not None
                if item is not None:
                    yield self._response(*item)
        finally:
            while is_open:  # the caller went away: let the reader come to its end
                is_open = answers.get() is not None

    def _read(self, messages: Iterator[bytes], scope: Scope, answers: "Queue[Waiting | None]") -> None:
        try:
            for message in messages:
                replied: Future[InferReply] = Future()
                told: Any = service_pb2.ModelInferRequest()
                try:
                    told, request = self._front.told_request(message)
                except ServingError as error:
                    self._dataplane.refuse(InferRequest("", "", ()), error, replied.set_result)
                else:
                    self._send(request, scope, replied)
                answers.put((told, replied))
        except grpc.RpcError:  # the caller went away
            pass
        finally:
            answers.put(None)

    def _send(self, request: InferRequest, stream: Scope, replied: "Future[InferReply]") -> None:
        own = Scope(min(request.deadline, stream.deadline), stream.metadata)
        stream.hold(own)
        replied.add_done_callback(lambda _: stream.release(own))
        self._dataplane.send(request, own, replied.set_result)

    def _response(self, told: Any, replied: "Future[InferReply]") -> bytes:
        reply = replied.result()
        if reply.error is not None:
            failed = service_pb2.ModelStreamInferResponse(error_message=f"{self._front.refusal(reply)}")
            failed.infer_response.id = told.id
            return bytes(failed.SerializeToString())
        parts = self._front.response(reply)
        if _FINAL in told.parameters:
            last = service_pb2.ModelInferResponse()
            last.parameters["triton_final_response"].bool_param = True
            parts.append(last.SerializeToString())  # protobuf merges what follows into what was before
        return wire.join(wire.delimited(_RESPONSE_TAG, *parts))
