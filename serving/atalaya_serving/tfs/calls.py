"""Finding who answers a TensorFlow Serving call, and having it computed: what every call of the API stands on."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from atalaya_serving.dataplane import Accepted, Dataplane, InferReply, InferRequest, Receiver
from atalaya_serving.datatypes import Tensor
from atalaya_serving.errors import InvalidRequest, ModelNotFound, ModelNotReady, ServingError
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.labels import LabelTable

Ended = Callable[[Any, str, float], None]
"""Told of the end of a call: its ModelSpec (or None), the name of its gRPC status, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the transport knows of a call; `deadline` is on time.monotonic's clock."""

    protocol: str = "tfs-grpc"
    deadline: float = NO_DEADLINE
    is_cancelled: Callable[[], bool] | None = None
    arrived_at: float = field(default_factory=time.monotonic)

    def request(self, model: str = "", version: str = "") -> InferRequest:
        """A request of this call, still empty."""
        request = InferRequest(model, version, (), protocol=self.protocol)
        request.deadline, request.is_cancelled = self.deadline, self.is_cancelled
        request.arrived_at = self.arrived_at
        return request


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered, and the outputs by name."""

    served: ServedVersion
    outputs: Mapping[str, Tensor]


class Calls:
    """Resolves a ModelSpec and computes on the version it means."""

    def __init__(self, dataplane: Dataplane, labels: LabelTable) -> None:
        self._dataplane, self._labels = dataplane, labels
        self.repository = dataplane.repository

    def resolve(self, spec: Any) -> ServedVersion:
        """The version that a ModelSpec means. Raises InvalidRequest, ModelNotFound with TensorFlow Serving's words."""
        if not spec.name:
            raise InvalidRequest("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        number = spec.version.value if choice == "version" else None
        if choice == "version_label":
            number = self._labels.version(spec.name, spec.version_label)
        try:
            return self.repository.resolve(spec.name, "" if number is None else str(number))
        except (ModelNotFound, ModelNotReady):
            wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise ModelNotFound(f"Servable not found for request: {wanted}") from None

    def start(
        self, spec: Any, call: Call, prepare: Callable[[ServedVersion], InferRequest], receive: Receiver
    ) -> Accepted | None:
        """Resolve, `prepare` the request for that version, have it computed.

        A version that is retired between the two is no error: the spec is resolved again.
        """

        def find() -> tuple[ServedVersion, InferRequest]:
            served = self.resolve(spec)
            request = prepare(served)
            request.model, request.version = served.name, served.version_text
            return served, request

        return self._dataplane.infer_prepared(call.request(), find, receive)

    def count_refused(self, call: Call, error: ServingError) -> None:
        """Count a call for an inference that was refused before any version was asked."""
        self._dataplane.refuse(call.request(), error, _told_elsewhere)

    def answer(self, spec: Any, call: Call, prepare: Callable[[ServedVersion], InferRequest]) -> Answer:
        """The same, waited for. Raises ServingError."""
        came: Future[InferReply] = Future()

        def keep(reply: InferReply) -> None:
            reply.tensors = [tensor.copy() for tensor in reply.tensors]
            came.set_result(reply)

        self.start(spec, call, prepare, keep)
        reply = came.result()
        if reply.error is not None:
            raise reply.error
        assert reply.served is not None
        names = [output.name for output in reply.outputs]
        return Answer(reply.served, dict(zip(names, reply.tensors, strict=True)))


def _told_elsewhere(_reply: InferReply) -> None:
    """Who refused answers."""


def fill_spec(answer: Any, served: ServedVersion, signature: str) -> None:
    """Say in a response's ModelSpec who answered."""
    answer.name, answer.signature_name = served.name, signature
    answer.version.value = served.version
