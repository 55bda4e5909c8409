"""Gathers the calls that wait into one batch: an executor for models whose first dimension is free.

Worth it where the engine gains more from a batch than the wait costs, as TensorFlow does, or int8. A call that does not
fit the others, or is larger than a batch may be, runs by itself.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atalaya_serving.budget import ByteBudget
from atalaya_serving.datatypes import Encoded, Tensor
from atalaya_serving.engines.base import LoadedModel, Slot
from atalaya_serving.errors import ServingError
from atalaya_serving.executor import Executor, Job, Outcome, decoded, run_job, unwanted
from atalaya_serving.stats import Execution

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batching:
    """At most `max_rows` a batch; it waits up to `timeout_seconds` for more calls.

    With `allowed_rows` a batch is filled up to the next of these sizes, so that an engine meets few shapes. `threads`
    batches run side by side, and `max_enqueued` may wait; None leaves both to the model's settings.
    """

    max_rows: int = 1000
    timeout_seconds: float = 0.0
    allowed_rows: tuple[int, ...] = ()
    threads: int | None = None
    max_enqueued: int | None = None

    def padded(self, rows: int) -> int:
        """The size in which a batch of `rows` runs."""
        return next((size for size in self.allowed_rows if size >= rows), rows)


def parse_batching(raw: Any) -> Batching | None:
    """Read a config entry's `{"max_size": 8, "timeout_seconds": 0.002}`. Raises ValueError that says what is wrong."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or not raw.keys() <= {"max_size", "timeout_seconds"}:
        raise ValueError('batching is not an object such as {"max_size": 8, "timeout_seconds": 0.002}')
    size, wait = raw.get("max_size"), raw.get("timeout_seconds", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError("batching needs max_size, a positive integer")
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < 3600:
        raise ValueError("batching's timeout_seconds is no number of seconds below an hour")
    return Batching(size, float(wait))


def can_batch(model: LoadedModel) -> bool:
    """Whether every input and output of every signature has a free first dimension."""
    specs = [spec for one in model.signatures.values() for spec in (*one.inputs, *one.outputs)]
    return bool(specs) and all(spec.shape[:1] == (-1,) for spec in specs)


class BatchingExecutor(Executor):
    """An executor whose slots run several calls at once."""

    def __init__(
        self, name: str, slots: Sequence[Slot], capacity: int, batching: Batching, budget: ByteBudget | None = None
    ) -> None:
        self._batching = batching
        super().__init__(name, slots, capacity, budget)

    def _serve(self, slot: Slot) -> None:
        job = self._next(0)
        while job is not None:
            jobs = self._gather(job)
            started_at = time.monotonic()
            for late in [one for one in jobs if unwanted(one, started_at)]:
                self._refuse(late)
                jobs.remove(late)
                self._finished(1)
            count = len(jobs)
            self._run(slot, jobs, started_at)
            del job, jobs
            job = self._next(count)

    def _gather(self, first: Job) -> list[Job]:
        """Take what fits `first` out of the queue, and wait for more up to the timeout or the first deadline."""
        jobs, rows = [first], first.rows
        until = min(time.monotonic() + self._batching.timeout_seconds, first.deadline)
        with self._lock:
            while True:
                for job in [one for one in self._queue if fit(first, one)]:
                    if rows + job.rows <= self._batching.max_rows:
                        self._queue.remove(job)
                        jobs.append(job)
                        rows, until = rows + job.rows, min(until, job.deadline)
                left = until - time.monotonic()
                if rows >= self._batching.max_rows or left <= 0 or self._closing:
                    break
                self._idle += 1
                self._work.wait(left)
                self._idle -= 1
            self._running += len(jobs) - 1
            if self._queue:  # what woke this thread may be another's
                self._work.notify()
        return jobs

    def _finished(self, count: int) -> None:
        with self._lock:
            self._running -= count

    def _run(self, slot: Slot, jobs: Sequence[Job], started_at: float) -> None:
        sound = [job for job in jobs if self._is_sound(job)] if len(jobs) > 1 else jobs
        outcomes = None
        try:
            outcomes = _run_together(slot, sound, self._batching, started_at) if len(sound) > 1 else None
        except Exception:  # noqa: BLE001 - a slot's thread must live; what no batch can hold runs call by call
            _log.exception("a batch could not be made")
        if outcomes is None:  # alone, or one of them spoils the batch: each by itself
            for job in sound:
                self._answer(job, run_job(slot, job, started_at))
            return
        for job, outcome in zip(sound, outcomes, strict=True):
            self._answer(job, outcome)

    def _is_sound(self, job: Job) -> bool:
        """Decode a call's inputs; one whose values are wrong is answered so, and is in no batch."""
        inputs = decoded(job)
        if isinstance(inputs, ServingError):
            self._answer(job, Outcome(error=inputs))
            return False
        job.inputs = inputs
        return True


def fit(first: Job, other: Job) -> bool:
    """Whether two calls can be one: the same signature and outputs, and inputs that differ in their rows only."""
    return (
        first.signature == other.signature
        and list(first.outputs) == list(other.outputs)
        and all(_same_row(one, two) for one, two in zip(first.inputs, other.inputs, strict=True))
        and all(tensor.shape[:1] == (job.rows,) for job in (first, other) for tensor in job.inputs)
    )


def _same_row(one: Tensor | Encoded, two: Tensor | Encoded) -> bool:
    return one.ndim > 0 and one.dtype == two.dtype and one.shape[1:] == two.shape[1:]


def _tensors(job: Job) -> list[Tensor]:
    return [one for one in job.inputs if not isinstance(one, Encoded)]


def _run_together(slot: Slot, jobs: Sequence[Job], batching: Batching, started_at: float) -> list[Outcome] | None:
    """An outcome a job; None when the batch failed or the answers do not come apart by rows."""
    rows = sum(job.rows for job in jobs)
    padding = batching.padded(rows) - rows
    inputs = []
    for parts in zip(*(_tensors(job) for job in jobs), strict=True):
        filling = [np.repeat(parts[0][:1], padding, axis=0)] if padding else []
        inputs.append(np.concatenate([*parts, *filling]))
    first = jobs[0]
    whole = Job(inputs, first.outputs, rows, first.done, signature=first.signature, accepted_at=first.accepted_at)
    outcome = run_job(slot, whole, started_at)
    if outcome.error is not None or any(tensor.shape[:1] != (rows + padding,) for tensor in outcome.tensors):
        return None
    took = outcome.execution.inference_seconds if outcome.execution else 0.0
    made, at = [], 0
    for job in jobs:
        tensors = [tensor[at : at + job.rows] for tensor in outcome.tensors]
        made.append(Outcome(tensors, None, Execution(job.rows, started_at - job.accepted_at, took)))
        at += job.rows
    return made
