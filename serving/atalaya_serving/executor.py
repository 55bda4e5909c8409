"""Runs the calls of one served version: a bounded queue in front of its slots, one thread a slot.

A call whose deadline is over, or whose caller has gone, is answered at that moment and never computed. `close` takes no
new call, lets the accepted ones finish and ends the threads: that is all a version needs to be swapped without a lost
call.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from atalaya_serving.budget import ByteBudget
from atalaya_serving.datatypes import Encoded, Tensor
from atalaya_serving.engines.base import Slot
from atalaya_serving.errors import CallCancelled, DeadlineExpired, InferenceFailed, QueueFull, ServingError
from atalaya_serving.stats import Execution

_log = logging.getLogger(__name__)

NO_DEADLINE = float("inf")
_LONGEST_WAIT_SECONDS = 3600.0


@dataclass(slots=True)
class Outcome:
    """How a job ended. `tensors` may be views of the slot, good only until `done` returns."""

    tensors: Sequence[Tensor] = ()
    error: ServingError | None = None
    execution: Execution | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One call. `done` is called exactly once, from any thread; `deadline` is on time.monotonic's clock."""

    inputs: Sequence[Tensor | Encoded]
    outputs: Sequence[int]
    rows: int
    done: Callable[[Outcome], None]
    deadline: float = NO_DEADLINE
    is_cancelled: Callable[[], bool] | None = None
    accepted_at: float = field(default_factory=time.monotonic)
    signature: str = ""
    held_bytes: int = 0
    """What its inputs take of the budget, from acceptance to answer."""


class Closed(Exception):
    """The executor takes no more jobs: its version is being retired."""


class Executor:
    """The queue and the threads of one version. All versions of a server share its `budget` of bytes."""

    def __init__(self, name: str, slots: Sequence[Slot], capacity: int, budget: ByteBudget | None = None) -> None:
        self._name, self._capacity = name, capacity
        self._budget = budget
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._earlier = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._idle = 0
        self._running = 0
        self._closing = self._ended = False
        self._look_at = NO_DEADLINE
        """When to look for late jobs next: never after the earliest deadline that waits, often before it."""
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"{name}-slot-{index}", daemon=True)
            for index, slot in enumerate(slots)
        ]
        self._clock = threading.Thread(target=self._watch_deadlines, name=f"{name}-deadlines", daemon=True)
        for thread in (*self._threads, self._clock):
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
        job.held_bytes = sum([one.nbytes for one in job.inputs])
        dropped: list[Job] = []
        try:
            with self._lock:
                if self._closing:
                    raise Closed
                if len(self._queue) - self._idle >= self._capacity:
                    dropped = self._take_unwanted()
                    if len(self._queue) - self._idle >= self._capacity:
                        raise QueueFull(
                            f"{self._name} has {self._capacity} calls waiting already; try again later, or start the"
                            " server with a larger --queue_size."
                        )
                self._hold(job)
                self._queue.append(job)
                if self._idle:
                    self._work.notify()
                if job.deadline < self._look_at:
                    self._look_at = job.deadline
                    self._earlier.notify()
        finally:
            for unwanted_job in dropped:
                self._refuse(unwanted_job)

    def withdraw(self, job: Job) -> None:
        """Answer `job` as cancelled if it still waits: its place is free for another."""
        with self._lock:
            try:
                self._queue.remove(job)
            except ValueError:  # it computes, or is answered
                return
        self._refuse(job)

    def close(self) -> None:
        """Take no new job; returns when every accepted one is answered. Not from a slot's thread."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join()
        with self._lock:
            self._ended = True
            self._earlier.notify()
        self._clock.join()

    def _hold(self, job: Job) -> None:
        if self._budget is not None and not self._budget.take(job.held_bytes):
            raise QueueFull(
                f"the server holds {self._budget.held >> 20} MiB of inputs for calls that wait, and no more than"
                f" {self._budget.limit >> 20} MiB; try again later, or send smaller batches."
            )

    def _take_unwanted(self) -> list[Job]:
        now = time.monotonic()
        gone = [job for job in self._queue if unwanted(job, now)]
        if gone:
            self._queue = deque(job for job in self._queue if job not in gone)
        return gone

    def _watch_deadlines(self) -> None:
        """Answer each job at its deadline where it still waits."""
        while True:
            with self._lock:
                while not self._ended and (left := self._look_at - time.monotonic()) > 0:
                    self._earlier.wait(min(left, _LONGEST_WAIT_SECONDS))
                if self._ended:
                    return
                late = self._take_unwanted()
                self._look_at = min((job.deadline for job in self._queue), default=NO_DEADLINE)
            for job in late:
                self._refuse(job)
            del late  # its tensors may be large

    def _serve(self, slot: Slot) -> None:
        job = self._next(0)
        while job is not None:
            started_at = time.monotonic()
            if unwanted(job, started_at):
                self._refuse(job)
            else:
                self._answer(job, run_job(slot, job, started_at))
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

    def _answer(self, job: Job, outcome: Outcome) -> None:
        """Hand the outcome over: the end of every job that was accepted."""
        try:
            job.done(outcome)
        except Exception:  # noqa: BLE001 - a slot's thread must live, whatever a transport does with the answer
            _log.exception("an answer could not be handed over")
        finally:
            job.inputs = ()  # whoever still holds the job shall not hold its tensors
            if self._budget is not None:
                self._budget.give_back(job.held_bytes)

    def _refuse(self, job: Job) -> None:
        """Answer an unwanted job."""
        now = time.monotonic()
        waited_ms = 1000 * (now - job.accepted_at)
        if now >= job.deadline:
            told = f"the deadline passed after {waited_ms:.0f} ms in the queue; nothing was computed; allow more time."
            self._answer(job, Outcome(error=DeadlineExpired(told)))
        else:
            self._answer(job, Outcome(error=CallCancelled(f"the caller left after {waited_ms:.0f} ms in the queue.")))


def unwanted(job: Job, now: float) -> bool:
    """Whether its deadline is over or its caller has gone."""
    return now >= job.deadline or (job.is_cancelled is not None and job.is_cancelled())


def decoded(job: Job) -> list[Tensor] | ServingError:
    """The inputs of `job`, those decoded that are still as they travelled; or what is wrong with them."""
    try:
        return [one.decode() if isinstance(one, Encoded) else one for one in job.inputs]
    except ServingError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a slot's thread must live; the call is told what happened
        return _unexpected(error)


def run_job(slot: Slot, job: Job, started_at: float) -> Outcome:
    """Decode and compute; whatever the engine does, there is an outcome."""
    inputs = decoded(job)
    if isinstance(inputs, ServingError):
        return Outcome(error=inputs)
    began_at = time.monotonic()
    try:
        tensors = slot.run(inputs, job.outputs, job.signature)
    except ServingError as error:
        return Outcome(error=error)
    except Exception as error:  # noqa: BLE001 - as above
        return Outcome(error=_unexpected(error))
    return Outcome(tensors, None, Execution(job.rows, started_at - job.accepted_at, time.monotonic() - began_at))


def _unexpected(error: Exception) -> InferenceFailed:
    _log.error("the engine failed unexpectedly", exc_info=error)
    return InferenceFailed(f"the engine failed unexpectedly: {error!r}; see the server's log.")
