"""Runs the calls of one served version: a bounded queue in front of its slots, one thread a slot.

A call whose deadline is over, or whose caller has gone, is answered and never computed. `close` takes no new call,
lets the accepted ones finish and ends the threads: that is all a version needs to be swapped without a lost call.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from atalaya_serving.datatypes import Tensor
from atalaya_serving.engines.base import Slot
from atalaya_serving.errors import CallCancelled, DeadlineExpired, InferenceFailed, QueueFull, ServingError
from atalaya_serving.stats import Execution

_log = logging.getLogger(__name__)

NO_DEADLINE = float("inf")


@dataclass(slots=True)
class Outcome:
    """How a job ended. `tensors` may be views of the slot, good only until `done` returns."""

    tensors: Sequence[Tensor] = ()
    error: ServingError | None = None
    execution: Execution | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One call. `done` is called exactly once, from a slot's thread; `deadline` is on time.monotonic's clock."""

    inputs: Sequence[Tensor]
    outputs: Sequence[int]
    rows: int
    done: Callable[[Outcome], None]
    deadline: float = NO_DEADLINE
    is_cancelled: Callable[[], bool] | None = None
    accepted_at: float = field(default_factory=time.monotonic)
    signature: str = ""


class Closed(Exception):
    """The executor takes no more jobs: its version is being retired."""


class Executor:
    """The queue and the threads of one version."""

    def __init__(self, name: str, slots: Sequence[Slot], capacity: int) -> None:
        self._name, self._capacity = name, capacity
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._idle = 0
        self._running = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"{name}-slot-{index}", daemon=True)
            for index, slot in enumerate(slots)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Calls that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Calls in inference."""
        return self._running

    def submit(self, job: Job) -> None:
        """Accept `job`. Raises QueueFull beyond the capacity, Closed when the version is being retired."""
        late: list[Job] = []
        try:
            with self._lock:
                if self._closing:
                    raise Closed
                if len(self._queue) - self._idle >= self._capacity:
                    late = self._take_late()
                    if len(self._queue) - self._idle >= self._capacity:
                        raise QueueFull(
                            f"{self._name} has {self._capacity} calls waiting already; try again later, or start the"
                            " server with a larger --queue_size."
                        )
                self._queue.append(job)
                if self._idle:
                    self._work.notify()
        finally:
            for expired in late:
                refuse(expired)

    def close(self) -> None:
        """Take no new job; returns when every accepted one is answered. Not from a slot's thread."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join()

    def _take_late(self) -> list[Job]:
        now = time.monotonic()
        late = [job for job in self._queue if job.deadline <= now]
        if late:
            self._queue = deque(job for job in self._queue if job.deadline > now)
        return late

    def _serve(self, slot: Slot) -> None:
        job = self._next(0)
        while job is not None:
            started_at = time.monotonic()
            if unwanted(job, started_at):
                refuse(job)
            else:
                finish(job, run_job(slot, job, started_at))
            del job  # its tensors may be large, and the next job may be long in coming
            job = self._next(1)

    def _next(self, finished: int) -> Job | None:
        with self._lock:
            self._running -= finished
            while not self._queue:
                if self._closing:
                    return None
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            self._running += 1
            return self._queue.popleft()


def unwanted(job: Job, now: float) -> bool:
    """Whether its deadline is over or its caller has gone."""
    return now >= job.deadline or (job.is_cancelled is not None and job.is_cancelled())


def run_job(slot: Slot, job: Job, started_at: float) -> Outcome:
    """Compute; whatever the engine does, there is an outcome."""
    try:
        tensors = slot.run(job.inputs, job.outputs, job.signature)
    except ServingError as error:
        return Outcome(error=error)
    except Exception as error:  # noqa: BLE001 - a slot's thread must live; the call is told what happened
        _log.exception("the engine failed unexpectedly")
        return Outcome(error=InferenceFailed(f"the engine failed unexpectedly: {error!r}; see the server's log."))
    took = time.monotonic() - started_at
    return Outcome(tensors, None, Execution(job.rows, started_at - job.accepted_at, took))


def finish(job: Job, outcome: Outcome) -> None:
    """Hand the outcome over."""
    try:
        job.done(outcome)
    except Exception:  # noqa: BLE001 - a slot's thread must live, whatever a transport does with the answer
        _log.exception("an answer could not be handed over")


def refuse(job: Job) -> None:
    """Answer an unwanted job."""
    waited_ms = 1000 * (time.monotonic() - job.accepted_at)
    if time.monotonic() >= job.deadline:
        told = f"the deadline passed after {waited_ms:.0f} ms in the queue; nothing was computed; allow more time."
        finish(job, Outcome(error=DeadlineExpired(told)))
    else:
        finish(job, Outcome(error=CallCancelled(f"the caller left after {waited_ms:.0f} ms in the queue.")))
