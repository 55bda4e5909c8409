"""ModelStreamInfer: inferences in a stream, several in flight, answered in their order; an error ends its request only.

Streams stay open long, so they have threads of their own, and never keep a health call waiting. A stream beyond the
bound is refused.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest
from atalaya_serving.errors import InferenceFailed, ModelNotReady, ServingError
from atalaya_serving.grpc_convert import WireRequest, parse_request, timeout_seconds, to_request, to_response

MAX_STREAMS = 64
_SPARE_THREADS = 4
_AHEAD = 32
_POLL_SECONDS = 0.25
_ENDS = "this server is shutting down; open the stream at another replica, or again when it is back."
_log = logging.getLogger(__name__)

Begun = tuple[Any, "Future[InferReply]"]
"""A request's message, as far as it could be read, and its answer."""


class InferStream:
    """The method's behaviour, as grpcio calls it; messages come and go as bytes."""

    def __init__(self, dataplane: Dataplane, max_streams: int = MAX_STREAMS) -> None:
        self._dataplane, self._max_streams = dataplane, max_streams
        self._places = threading.BoundedSemaphore(max_streams)
        self.experimental_thread_pool = ThreadPoolExecutor(
            max_streams + _SPARE_THREADS, thread_name_prefix="grpc-stream"
        )

    def __call__(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer a stream."""
        if not self._places.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._max_streams} streams are open, the most that this server keeps; close one, or use ModelInfer.",
            )
        try:
            yield from self._answer(messages, context)
        finally:
            self._places.release()

    def _answer(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        answers: Queue[Begun | None] = Queue(_AHEAD)
        threading.Thread(
            target=self._read, args=(messages, context, answers), name="grpc-stream-in", daemon=True
        ).start()
        is_open = True
        try:
            while is_open:
                is_draining = self._dataplane.is_draining
                try:
                    item = answers.get(timeout=_POLL_SECONDS)
                except Empty:
                    is_over = is_draining  # for the whole wait: nothing is in flight, and nothing new is accepted
                else:
                    is_open = item is not None
                    if item is not None:
                        yield self.response(*item)
                    is_over = is_draining and item is not None and _was_refused(item[1])
                if is_over:
                    is_open = False
                    context.abort(grpc.StatusCode.UNAVAILABLE, _ENDS)
        finally:
            while is_open:  # the caller went away: let the reader come to its end
                is_open = answers.get() is not None

    def _read(self, messages: Iterator[bytes], context: grpc.ServicerContext, answers: "Queue[Begun | None]") -> None:
        try:
            for message in messages:
                answers.put(self.begin(message, context))
        except grpc.RpcError:  # the caller went away
            pass
        finally:
            answers.put(None)

    def begin(self, message: bytes, context: grpc.ServicerContext) -> Begun:
        """Start a request; what is wrong with it is in its answer."""
        return begin(self._dataplane, message, context)

    def response(self, message: Any, answer: "Future[InferReply]") -> bytes:
        """The message that answers a request, once it is there."""
        return bytes(_response(message, answer).SerializeToString())


def begin(dataplane: Dataplane, message: bytes, context: grpc.ServicerContext) -> Begun:
    """Start a request that came the ordinary way; what is wrong with it is in its answer."""
    wire = WireRequest(service_pb2.ModelInferRequest(), ())
    try:
        wire = parse_request(message)
        return wire.message, dataplane.infer_later(_call_request(wire, context))
    except ServingError as error:
        return wire.message, _refused(dataplane, error)
    except Exception as error:  # noqa: BLE001 - the edge of a call's thread: an error ends its request only
        _log.error("a request failed outside the engine", exc_info=error)
        failed = InferenceFailed("the server failed on this request; its log says why.")
        return wire.message, _refused(dataplane, failed)


def _refused(dataplane: Dataplane, error: ServingError) -> "Future[InferReply]":
    answer: Future[InferReply] = Future()
    dataplane.refuse(InferRequest("", "", ()), error, answer.set_result)
    return answer


def _call_request(wire: WireRequest, context: grpc.ServicerContext) -> InferRequest:
    """The request of a message that came the ordinary way."""
    request = to_request(wire)
    remaining = context.time_remaining()
    request.deadline = request.arrived_at + min(
        float("inf") if remaining is None else remaining, timeout_seconds(wire.message)
    )
    request.is_cancelled = lambda: not context.is_active()
    return request


def _was_refused(answer: "Future[InferReply]") -> bool:
    """Whether a request came too late: all that were accepted came before it, and are answered."""
    return isinstance(answer.result().error, ModelNotReady)


def _response(message: Any, answer: "Future[InferReply]") -> Any:
    reply = answer.result()
    if reply.error is not None:
        failed = service_pb2.ModelStreamInferResponse(error_message=f"{reply.error}")
        failed.infer_response.id = message.id
        return failed
    response = to_response(reply)
    if "triton_enable_empty_final_response" in message.parameters:
        response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=response)
