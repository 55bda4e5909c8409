"""One inference call from client to upstream and back, bytes to bytes, whatever way it came through grpcio."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import Scope
from atalaya_serving.bridge.fronts import Front
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.bridge.templates import Template, Templates, learn
from atalaya_serving.bridge.tfs_wire import decoded
from atalaya_serving.bridge.upstream import Answer
from atalaya_serving.dataplane import InferReply, InferRequest
from atalaya_serving.errors import InferenceFailed, ServingError
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.served import ServedVersion

_log = logging.getLogger(__name__)
Tell = Callable[[Answer], None]


@dataclass(slots=True)
class _Kind:
    """What all requests of a template ask for, and the kinds of their answers."""

    request: InferRequest
    answers: Templates[ServedVersion] = field(default_factory=Templates)


class Hop:
    """Converts, sends, converts, counts."""

    def __init__(self, front: Front, dataplane: RemoteDataplane) -> None:
        self._front, self._dataplane = front, dataplane
        self._requests: Templates[_Kind] = Templates()

    def take(self, message: bytes, arrived_at: float, scope: Scope, tell: Tell) -> None:
        """Have `message` answered: `tell` is called exactly once, here or later from the upstream's thread."""
        known = self._requests.find(message)
        if known is None or not self._dataplane.takes_more:
            self._take_unknown(message, arrived_at, scope, tell)
            return
        kind = known.about

        def done(answer: Answer) -> None:
            found = None if isinstance(answer, ServingError) else kind.answers.find(answer)
            if found is None or isinstance(answer, ServingError):
                self._finish(answer, replace(kind.request, arrived_at=arrived_at), kind, tell)
                return
            try:
                tell(found.write(answer))
            finally:
                found.about.stats.record(self._front.protocol, "OK", time.monotonic() - arrived_at, None)

        self._dataplane.dispatch(known.write(message), scope, done)

    def _take_unknown(self, message: bytes, arrived_at: float, scope: Scope, tell: Tell) -> None:
        request = InferRequest("", "", (), protocol=self._front.protocol, arrived_at=arrived_at)
        try:
            request = self._front.request(message)
        except ServingError as error:
            self._refuse(request, error, tell)
            return
        request.arrived_at = arrived_at
        scope.deadline = min(scope.deadline, request.deadline)

        def go(failure: ServingError | None) -> None:
            if failure is None:
                self._send(message, request, scope, tell)
            else:
                self._refuse(request, failure, tell)

        self._dataplane.decode(request, go)

    def _refuse(self, request: InferRequest, error: ServingError, tell: Tell) -> None:
        self._dataplane.refuse(request, error, lambda reply: tell(self._front.refusal(reply)))

    def _send(self, message: bytes, request: InferRequest, scope: Scope, tell: Tell) -> None:
        try:
            parts = self._dataplane.write(request)
        except ServingError as error:
            self._refuse(request, error, tell)
            return
        kind = _Kind(replace(request, inputs=()))
        template = self._learned(message, request, parts, kind)

        def done(answer: Answer) -> None:
            if template is not None and not isinstance(answer, ServingError):
                self._requests.add(message, template)
            self._finish(answer, request, kind, tell)

        self._dataplane.dispatch(wire.join(parts), scope, done)

    def _learned(
        self, message: bytes, request: InferRequest, parts: Sequence[wire.Part], kind: _Kind
    ) -> Template[_Kind] | None:
        """The kind of a request; none with an identity or a deadline of its own, or a version of no number upstream."""
        if request.id or request.deadline != NO_DEADLINE or not self._dataplane.writes_always_alike(request):
            return None
        return learn(message, [(one.datatype, decoded(one.data)) for one in request.inputs], parts, kind)

    def _finish(self, answer: Answer, request: InferRequest, kind: _Kind, tell: Tell) -> None:
        def receive(reply: InferReply) -> None:
            if reply.error is not None or isinstance(answer, ServingError):
                tell(self._front.refusal(reply))
                return
            try:
                parts = self._front.response(reply)
            except Exception as failure:  # noqa: BLE001 - the edge to foreign tensors: the caller must have an answer
                _log.error("an answer of the upstream could not be converted", exc_info=failure)
                tell(InferenceFailed("the bridge could not convert the upstream's answer; its log says why."))
                return
            tell(wire.join(parts))
            assert reply.served is not None
            tensors = [(spec.datatype, one) for spec, one in zip(reply.outputs, reply.tensors, strict=True)]
            template = learn(answer, tensors, parts, reply.served)
            if template is not None:
                kind.answers.add(answer, template)

        self._dataplane.answer(request, answer, receive)
