"""The transport-neutral core: a typed request in, exactly one typed reply out. Knows no protocol and no engine.

The transports convert and delegate; what is valid, who answers, what is counted is decided here.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from atalaya_serving.datatypes import Encoded, Tensor
from atalaya_serving.engines.base import TensorSpec
from atalaya_serving.errors import (
    DeadlineExpired,
    InferenceFailed,
    InvalidRequest,
    ModelNotReady,
    ServingError,
    code_of,
)
from atalaya_serving.executor import NO_DEADLINE, Closed, Executor, Job, Outcome
from atalaya_serving.repository import ModelRepository
from atalaya_serving.served import ServedVersion
from atalaya_serving.stats import Execution, VersionStats

SHUTTING_DOWN = "this server is shutting down; call another replica, or again when it is back."
_log = logging.getLogger(__name__)
_IDLE_POLL_SECONDS = 0.02
_TRIES = 8


@dataclass(slots=True)
class InputTensor:
    """One given input. `datatype` is the v2 name; `data` has the shape of the request, and its dtype."""

    name: str
    datatype: str
    data: Tensor | Encoded


@dataclass(slots=True)
class InferRequest:
    """One call. An empty `version` is the newest; empty `outputs` are all; `deadline` is on time.monotonic's clock."""

    model: str
    version: str
    inputs: Sequence[InputTensor]
    outputs: Sequence[str] = ()
    id: str = ""
    protocol: str = "grpc"
    deadline: float = NO_DEADLINE
    is_cancelled: Callable[[], bool] | None = None
    arrived_at: float = field(default_factory=time.monotonic)
    signature: str = ""
    """One of the model's signatures; KServe v2 knows only the default one."""


@dataclass(slots=True)
class InferReply:
    """How a call ended. With no `error`: who answered, and one tensor an output, good until the receiver returns."""

    request: InferRequest
    served: ServedVersion | None = None
    outputs: Sequence[TensorSpec] = ()
    tensors: Sequence[Tensor] = ()
    error: ServingError | None = None


Receiver = Callable[[InferReply], None]
"""Called once. One that raises is called a second time, with an error in place of the answer."""

Prepare = Callable[[], tuple[ServedVersion, InferRequest]]
"""Finds who shall answer, and makes the request; called again where that version was retired at this moment."""


@dataclass(slots=True)
class Accepted:
    """A call that waits or computes."""

    executor: Executor
    job: Job

    def withdraw(self) -> None:
        """The caller has gone: where the call still waits, it is answered as cancelled and its place is free."""
        self.executor.withdraw(self.job)


class Dataplane:
    """What both protocols stand on."""

    def __init__(self, repository: ModelRepository) -> None:
        self.repository = repository
        self.refused = VersionStats()
        """Counts calls that reached no version, under no name: names from outside must not become labels."""
        self.is_ready_with_failed_models = False
        """Whether a model that could not be loaded leaves the server ready."""
        self.is_draining = False
        """Set when the server is told to end: it is not ready, and takes no new inference."""

    def infer(self, request: InferRequest, receive: Receiver) -> Accepted | None:
        """Have `request` answered: `receive` is called exactly once, here or later from another thread.

        None where it is answered already.
        """
        return self.infer_prepared(
            request, lambda: (self.repository.resolve(request.model, request.version), request), receive
        )

    def infer_prepared(self, call: InferRequest, prepare: Prepare, receive: Receiver) -> Accepted | None:
        """The same for a request that depends on who answers; `call` has its protocol, deadline and cancellation."""
        served: ServedVersion | None = None
        request = call
        try:
            if self.is_draining:
                raise ModelNotReady("this server is shutting down; call another replica, or again when it is back.")
            if call.deadline <= time.monotonic():
                raise DeadlineExpired("the deadline had passed before the call arrived; nothing was computed.")
            for _ in range(_TRIES):
                served, request = prepare()
                job = self._job(served, request, receive)
                try:
                    served.executor.submit(job)
                except Closed:
                    continue  # this version was just retired: another one, or an honest refusal, stands in its place
                return Accepted(served.executor, job)
            raise ModelNotReady(f"model {request.model!r} is changing versions too quickly; try again.")
        except ServingError as error:
            self._answer(InferReply(request, served, error=error), None, receive)
        return None

    def refuse(self, request: InferRequest, error: ServingError, receive: Receiver) -> None:
        """Answer and count a call that the transport itself found wrong."""
        self._answer(InferReply(request, error=error), None, receive)

    def infer_now(self, request: InferRequest) -> InferReply:
        """Wait for the answer; its tensors are copies. For transports with a thread a call."""
        return self.infer_later(request).result()

    def infer_later(self, request: InferRequest) -> "Future[InferReply]":
        """The answer as a future; its tensors are copies."""
        answer: Future[InferReply] = Future()

        def keep(reply: InferReply) -> None:
            reply.tensors = [tensor.copy() for tensor in reply.tensors]
            answer.set_result(reply)

        self.infer(request, keep)
        return answer

    def is_ready(self) -> bool:
        """Whether this server wants traffic."""
        repository = self.repository
        return not self.is_draining and (
            repository.is_started if self.is_ready_with_failed_models else repository.is_ready()
        )

    def wait_until_idle(self, timeout_seconds: float) -> int:
        """Wait until no accepted call waits or computes, but no longer than told; how many still do."""
        until = time.monotonic() + timeout_seconds
        while (left := self.under_way) and time.monotonic() < until:
            time.sleep(_IDLE_POLL_SECONDS)
        return left

    @property
    def under_way(self) -> int:
        """Accepted calls that wait or compute."""
        return sum(served.executor.depth + served.executor.running for served in self.repository.served())

    def _job(self, served: ServedVersion, request: InferRequest, receive: Receiver) -> Job:
        signature = served.model.signatures[request.signature] if request.signature else served.model
        specs = signature.outputs
        inputs = bind_inputs(served, request.inputs, signature.inputs)
        positions = bind_outputs(served, request.outputs, specs)

        def done(outcome: Outcome) -> None:
            outputs = [specs[position] for position in positions]
            reply = InferReply(request, served, outputs, outcome.tensors, outcome.error)
            self._answer(reply, outcome.execution, receive)

        return Job(
            inputs,
            positions,
            inputs[0].shape[0] if inputs and inputs[0].ndim else 1,
            done,
            request.deadline,
            request.is_cancelled,
            request.arrived_at,
            request.signature,
        )

    def _answer(self, reply: InferReply, execution: Execution | None, receive: Receiver) -> None:
        """Hand over, then count: the caller should not wait for our books."""
        try:
            receive(reply)
        except Exception as error:  # noqa: BLE001 - whatever a transport cannot do with an answer, the caller is told
            _log.error("an answer could not be handed over", exc_info=error)
            reply.error = InferenceFailed("the server failed on this answer; its log says why.")
            receive(reply)
        finally:
            stats = reply.served.stats if reply.served is not None else self.refused
            code = "OK" if reply.error is None else code_of(reply.error).grpc.name
            request = reply.request
            stats.record(request.protocol, code, time.monotonic() - request.arrived_at, execution)


def bind_inputs(
    served: ServedVersion, given: Sequence[InputTensor], specs: Sequence[TensorSpec]
) -> list[Tensor | Encoded]:
    """The given tensors in the order of `specs`. Raises InvalidRequest that says what the model takes."""
    if len(given) == 1 and len(specs) == 1 and given[0].name == specs[0].name:
        check_tensor(served, specs[0], given[0])
        return [given[0].data]
    by_name: dict[str, InputTensor] = {}
    for tensor in given:
        if tensor.name in by_name:
            raise InvalidRequest(f"input {tensor.name!r} is given twice; give it once.")
        by_name[tensor.name] = tensor
    bound: list[Tensor | Encoded] = []
    for spec in specs:
        name = next((name for name in (spec.name, *sorted(spec.aliases)) if name in by_name), None)
        if name is None:
            raise InvalidRequest(
                f"input {spec.name!r} of model {served.name!r} is missing; it takes {_names(specs)},"
                f" the request has {', '.join(map(repr, by_name)) or 'none'}."
            )
        tensor = by_name.pop(name)
        check_tensor(served, spec, tensor)
        bound.append(tensor.data)
    if by_name:
        raise InvalidRequest(f"model {served.name!r} has no input {next(iter(by_name))!r}; it takes {_names(specs)}.")
    return bound


def bind_outputs(served: ServedVersion, names: Sequence[str], specs: Sequence[TensorSpec]) -> list[int]:
    """The positions of the outputs asked for; all when none is named. Raises InvalidRequest."""
    if not names:
        return list(range(len(specs)))
    positions: Mapping[str, int] = {
        name: index for index, spec in enumerate(specs) for name in (spec.name, *spec.aliases)
    }
    if unknown := [name for name in names if name not in positions]:
        raise InvalidRequest(f"model {served.name!r} has no output {unknown[0]!r}; it gives {_names(specs)}.")
    return [positions[name] for name in names]


def check_tensor(served: ServedVersion, spec: TensorSpec, tensor: InputTensor) -> None:
    """Hold one tensor against its input. Raises InvalidRequest."""
    if tensor.datatype != spec.datatype:
        told = " (it has no string input)" if tensor.datatype == "BYTES" else ""
        raise InvalidRequest(
            f"input {spec.name!r} of model {served.name!r} is {spec.datatype}, the request has {tensor.datatype}{told};"
            " convert it."
        )
    shape = tensor.data.shape
    fits = len(shape) == len(spec.shape) and all(
        low <= size and (high == -1 or size <= high) for size, (low, high) in zip(shape, spec.bounds, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"input {spec.name!r} of model {served.name!r} has shape {list(spec.shape)} (-1 is any size), the request"
            f" has {list(shape)}."
        )


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
