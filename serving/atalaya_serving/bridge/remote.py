"""A dataplane whose models compute elsewhere: what the server's own protocol services stand on in a bridge.

A dialect says how the upstream speaks; this sends, answers exactly once, and counts.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import Scope, current_scope, deadline_in
from atalaya_serving.bridge.tfs_wire import decoded
from atalaya_serving.bridge.upstream import Answer, Done, Upstream
from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest, InputTensor, Prepare, Receiver
from atalaya_serving.datatypes import Encoded
from atalaya_serving.engines.base import Engine, Signature, Slot, TensorSpec
from atalaya_serving.errors import InferenceFailed, ModelNotFound, ModelNotReady, QueueFull, ServingError
from atalaya_serving.executor import Executor
from atalaya_serving.repository import ModelRepository
from atalaya_serving.served import ServedVersion
from atalaya_serving.settings import Settings

_log = logging.getLogger(__name__)
_MOST_ANSWERERS = 4096
_DECODED_HERE_BYTES = 16 << 10
_ASIDE_THREADS = 2
_ENDING = "this bridge is shutting down; call another replica, or again when it is back."


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model as the upstream tells it; an engine's model to all that reads it."""

    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    platform: str = ""
    precision: str = ""
    slots: Sequence[Slot] = ()


class Dialect(Protocol):
    """What the upstream speaks."""

    @property
    def infer_method(self) -> str:
        """The path of its inference call."""

    def write(self, request: InferRequest) -> list[wire.Part]:
        """The parts of the upstream's message of a request. Raises ServingError."""

    def writes_always_alike(self, request: InferRequest) -> bool:
        """Whether nothing but the request decides how it is written."""

    def read(self, message: bytes, request: InferRequest) -> tuple[str, int, list[tuple[str, str, Any]]]:
        """Model, version and outputs (name, datatype, values) of its answer. Raises ServingError."""


class RemoteModels(ModelRepository):
    """The models of an upstream, each asked for by name. A repository without models to all that asks for all."""

    def __init__(self) -> None:
        super().__init__(Settings(), cast(Engine, None))

    def forget(self, name: str) -> None:
        """What was remembered of a model is out of date."""
        raise NotImplementedError

    def is_model_ready(self, name: str, version: str) -> bool:
        """Whether a version, or with an empty one any, serves. Raises ServingError when nobody answers."""
        raise NotImplementedError

    def is_server_ready(self, seconds: float) -> bool:
        """Whether the upstream wants traffic. Raises ServingError when nobody answers."""
        raise NotImplementedError


class RemoteDataplane(Dataplane):
    """Has every call answered by the upstream."""

    def __init__(
        self, repository: RemoteModels, upstream: Upstream, dialect: Dialect, most_in_flight: int = 1024
    ) -> None:
        super().__init__(repository)
        self._most_in_flight = most_in_flight
        self._models, self._upstream, self._dialect = repository, upstream, dialect
        self._answerers: dict[tuple[str, int], ServedVersion] = {}
        self.is_upstream_ready: Callable[[], bool] = lambda: False
        self.in_flight = 0
        self._counting = threading.Lock()
        self._aside = ThreadPoolExecutor(_ASIDE_THREADS, thread_name_prefix="aside")

    def infer(self, request: InferRequest, receive: Receiver) -> None:
        """Have `request` answered within the scope of the call in hand."""
        outer = current_scope()
        own = deadline_in(request.deadline - time.monotonic())
        scope = Scope(min(own, outer.deadline), outer.metadata)
        outer.hold(scope)

        def received(reply: InferReply) -> None:
            outer.release(scope)
            receive(reply)

        self.send(request, scope, received)

    def infer_prepared(self, call: InferRequest, prepare: Prepare, receive: Receiver) -> None:
        """The same for a request that depends on who answers.

        A version that the upstream has retired since it was asked for is no error: `prepare` is called again, once.
        """
        self._infer_prepared(call, prepare, receive, may_repeat=True)

    def _infer_prepared(self, call: InferRequest, prepare: Prepare, receive: Receiver, *, may_repeat: bool) -> None:
        try:
            served, request = prepare()
        except ServingError as error:
            self.refuse(call, error, receive)
            return
        context = copy_context()

        def received(reply: InferReply) -> None:
            if may_repeat and isinstance(reply.error, ModelNotFound):  # the thread here must not wait for the upstream
                again = partial(self._infer_prepared, call, prepare, receive, may_repeat=False)
                self._aside.submit(context.run, again)
                return
            if reply.served is not None:
                reply.served = replace(reply.served, model=served.model)
            receive(reply)

        self.infer(request, received)

    def infer_later(self, request: InferRequest) -> "Future[InferReply]":
        """The answer as a future; its tensors are views of the upstream's message, which they keep."""
        answer: Future[InferReply] = Future()
        self.infer(request, answer.set_result)
        return answer

    def send(self, request: InferRequest, scope: Scope, receive: Receiver) -> None:
        """Have `request` answered; cancelling `scope` cancels it upstream."""

        def go(failure: ServingError | None) -> None:
            try:
                if failure is not None:
                    raise failure
                message = wire.join(self.write(request))
            except ServingError as error:
                self.refuse(request, error, receive)
                return
            self.dispatch(message, scope, lambda answer: self.answer(request, answer, receive))

        self.decode(request, go)

    def decode(self, request: InferRequest, go: Callable[[ServingError | None], None]) -> None:
        """Decode the values of `request`, then `go`: here, or in another thread where it would hold up other calls."""
        if not self.takes_more:  # `write` says so
            go(None)
            return
        if sum(one.data.nbytes for one in request.inputs if isinstance(one.data, Encoded)) <= _DECODED_HERE_BYTES:
            go(_decode(request))
            return
        self._count(1)

        def decode_and_go() -> None:
            failure = _decode(request)
            self._count(-1)
            try:
                go(failure)
            except Exception as error:  # noqa: BLE001 - the edge of a thread: the caller must have an answer
                _log.error("a request failed in the bridge", exc_info=error)
                go(InferenceFailed("the bridge failed on this request; its log says why."))

        try:
            self._aside.submit(decode_and_go)
        except RuntimeError:  # the interpreter is ending
            self._count(-1)
            go(ModelNotReady(_ENDING))

    def write(self, request: InferRequest) -> list[wire.Part]:
        """The parts of the upstream's message. Raises ServingError, also where `takes_more` says no."""
        if self.is_draining:
            raise ModelNotReady(_ENDING)
        if not self.takes_more:
            raise QueueFull(
                f"{self._most_in_flight} calls are on their way to the upstream; call again later, or raise"
                " --queue_size."
            )
        return self._dialect.write(request)

    @property
    def takes_more(self) -> bool:
        """Whether another call may be sent: none once a shutdown has begun, and never more than may be held here."""
        return not self.is_draining and self.in_flight < self._most_in_flight

    def writes_always_alike(self, request: InferRequest) -> bool:
        """Whether nothing but the request decides how it is written."""
        return self._dialect.writes_always_alike(request)

    def dispatch(self, message: bytes, scope: Scope, done: Done) -> None:
        """Send the upstream's message of an inference; it is on its way until `done` returns."""
        self._count(1)

        def finish(answer: Answer) -> None:
            try:
                done(answer)
            finally:
                self._count(-1)

        self._upstream.start(self._dialect.infer_method, message, scope, finish)

    def answer(self, request: InferRequest, answer: Answer, receive: Receiver) -> None:
        """Hand over what the upstream answered, then count."""
        self._answer(self._reply(request, answer), None, receive)

    def is_ready(self) -> bool:
        """Whether the upstream serves, and no shutdown has begun."""
        return not self.is_draining and self.is_upstream_ready()

    @property
    def under_way(self) -> int:
        """Calls on their way."""
        return self.in_flight

    def answerers(self) -> list[ServedVersion]:
        """Every version that has answered."""
        return list(self._answerers.values())

    def _count(self, change: int) -> None:
        with self._counting:
            self.in_flight += change

    def _reply(self, request: InferRequest, answer: Answer) -> InferReply:
        if isinstance(answer, ServingError):
            if isinstance(answer, ModelNotFound):
                self._models.forget(request.model)
            return InferReply(request, error=answer)
        try:
            model, version, tensors = self._dialect.read(answer, request)
        except ServingError as error:
            return InferReply(request, error=error)
        except Exception as error:  # noqa: BLE001 - the edge to foreign bytes, in the one thread that reads all answers
            return InferReply(request, error=InferenceFailed(f"the upstream's answer cannot be read: {error!r}."))
        outputs = [TensorSpec(name, datatype, tensor.shape) for name, datatype, tensor in tensors]
        return InferReply(request, self._answerer(model, version), outputs, [tensor for _, _, tensor in tensors])

    def _answerer(self, model: str, version: int) -> ServedVersion:
        served = self._answerers.get((model, version))
        if served is None:
            if len(self._answerers) >= _MOST_ANSWERERS:  # versions come and go for years
                self._answerers.pop(next(iter(self._answerers)), None)
            served = self._answerers[model, version] = remote_version(model, version, RemoteModel())
        return served


def _decode(request: InferRequest) -> ServingError | None:
    """Why the values cannot be read, if so."""
    try:
        request.inputs = [InputTensor(one.name, one.datatype, decoded(one.data)) for one in request.inputs]
    except ServingError as error:
        return error
    return None


def remote_version(name: str, version: int, model: RemoteModel) -> ServedVersion:
    """A served version without an executor: nothing in a bridge computes."""
    return ServedVersion(name, version, model, cast(Executor, None), "", None)
