"""Finding who answers a TensorFlow Serving call, and having it computed: what every call of the API stands on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atalaya_serving.dataplane import Dataplane, InferReply, InferRequest
from atalaya_serving.datatypes import Tensor
from atalaya_serving.errors import InvalidRequest, ModelNotFound, ModelNotReady, ServingError
from atalaya_serving.executor import NO_DEADLINE
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.labels import LabelTable

_TRIES = 8


@dataclass(frozen=True, slots=True)
class Call:
    """What the transport knows of a call; `deadline` is on time.monotonic's clock."""

    protocol: str = "tfs-grpc"
    deadline: float = NO_DEADLINE
    is_cancelled: Callable[[], bool] | None = None

    def request(self, model: str = "", version: str = "") -> InferRequest:
        """A request of this call, still empty."""
        request = InferRequest(model, version, (), protocol=self.protocol)
        request.deadline, request.is_cancelled = self.deadline, self.is_cancelled
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

    def answer(self, spec: Any, call: Call, prepare: Callable[[ServedVersion], InferRequest]) -> Answer:
        """Resolve, `prepare` the request for that version, compute.

        A version that is retired between the two is no error: the spec is resolved again. Raises ServingError.
        """
        try:
            for _ in range(_TRIES):
                served = self.resolve(spec)
                request = prepare(served)
                request.model, request.version = served.name, served.version_text
                reply = self._dataplane.infer_now(request)
                if isinstance(reply.error, (ModelNotFound, ModelNotReady)):
                    continue
                break
        except ServingError as error:
            self._dataplane.refuse(call.request(), error, _ignore)
            raise
        if reply.error is not None:
            raise reply.error
        names = [output.name for output in reply.outputs]
        return Answer(served, dict(zip(names, reply.tensors, strict=True)))


def fill_spec(answer: Any, served: ServedVersion, signature: str) -> None:
    """Say in a response's ModelSpec who answered."""
    answer.name, answer.signature_name = served.name, signature
    answer.version.value = served.version


def _ignore(_reply: InferReply) -> None:
    """The transport answers."""
