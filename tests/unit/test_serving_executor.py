"""The queue of a version: bounded, never computes what is late or unwanted, loses nothing when it closes."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from atalaya_serving.errors import CallCancelled, DeadlineExpired, InferenceFailed, QueueFull
from atalaya_serving.executor import NO_DEADLINE, Closed, Executor, Job, Outcome
from builders_serving import FakeEngine, FakeSlot


class Answers:
    """Gathers outcomes by the job's number."""

    def __init__(self) -> None:
        self.got: dict[int, Outcome] = {}
        self._changed = threading.Condition()

    def receive(self, number: int) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            with self._changed:
                assert number not in self.got, "answered twice"
                self.got[number] = outcome
                self._changed.notify_all()

        return done

    def wait(self, count: int) -> dict[int, Outcome]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, timeout=10)
        return self.got


def job(answers: Answers, number: int, deadline: float = NO_DEADLINE, cancelled: bool = False) -> Job:
    tile = np.full((1, 4), number, np.float32)
    return Job([tile], [0], 1, answers.receive(number), deadline, lambda: cancelled)


def executor(engine: FakeEngine, capacity: int = 4) -> Executor:
    return Executor("m-1", [FakeSlot(engine, 1)], capacity)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_beyond_its_capacity_a_call_is_refused_and_the_others_are_answered() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine, capacity=2)
    queue.submit(job(answers, 0))
    wait_until(lambda: queue.running == 1)
    queue.submit(job(answers, 1))
    queue.submit(job(answers, 2))
    with pytest.raises(QueueFull, match="2 calls waiting"):
        queue.submit(job(answers, 3))
    engine.gate.set()
    queue.close()
    assert sorted(answers.got) == [0, 1, 2]


def test_an_expired_call_is_answered_and_never_computed() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine)
    queue.submit(job(answers, 0))
    wait_until(lambda: queue.running == 1)
    queue.submit(job(answers, 1, deadline=time.monotonic() + 0.01))
    queue.submit(job(answers, 2))
    time.sleep(0.02)
    engine.gate.set()
    queue.close()
    assert isinstance(answers.got[1].error, DeadlineExpired)
    assert engine.computed == [0, 2]


def test_a_cancelled_call_is_never_computed() -> None:
    engine, answers = FakeEngine(), Answers()
    queue = executor(engine)
    queue.submit(job(answers, 1, cancelled=True))
    queue.close()
    assert isinstance(answers.got[1].error, CallCancelled)
    assert engine.computed == []


def test_a_full_queue_makes_room_by_dropping_the_expired() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine, capacity=1)
    queue.submit(job(answers, 0))
    wait_until(lambda: queue.running == 1)
    queue.submit(job(answers, 1, deadline=time.monotonic() + 0.01))
    time.sleep(0.02)
    queue.submit(job(answers, 2))
    assert isinstance(answers.wait(1)[1].error, DeadlineExpired)
    engine.gate.set()
    queue.close()
    assert engine.computed == [0, 2]


def test_closing_answers_all_that_was_accepted_and_takes_no_more() -> None:
    engine, answers = FakeEngine(seconds=0.002), Answers()
    queue = executor(engine, capacity=100)
    for number in range(50):
        queue.submit(job(answers, number))
    queue.close()
    assert sorted(answers.got) == list(range(50))
    with pytest.raises(Closed):
        queue.submit(job(answers, 50))


def test_an_engine_that_breaks_fails_its_call_and_not_the_server() -> None:
    engine, answers = FakeEngine(breaks=True), Answers()
    queue = executor(engine)
    queue.submit(job(answers, 0))
    assert isinstance(answers.wait(1)[0].error, InferenceFailed)
    engine.breaks = False
    queue.submit(job(answers, 1))
    assert answers.wait(2)[1].error is None
    queue.close()


def test_a_transport_that_breaks_does_not_end_the_slot(caplog: pytest.LogCaptureFixture) -> None:
    engine, answers = FakeEngine(), Answers()
    queue = executor(engine)

    def broken(_outcome: Outcome) -> None:
        raise ValueError("the connection is gone")

    queue.submit(Job([np.zeros((1, 4), np.float32)], [0], 1, broken))
    queue.submit(job(answers, 1))
    answers.wait(1)
    queue.close()
    assert "could not be handed over" in caplog.text


def test_the_depth_counts_what_waits() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine)
    for number in range(3):
        queue.submit(job(answers, number))
    wait_until(lambda: (queue.running, queue.depth) == (1, 2))
    engine.gate.set()
    queue.close()
    assert (queue.running, queue.depth) == (0, 0)
