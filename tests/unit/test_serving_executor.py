"""The queue of a version: bounded, never computes what is late or unwanted, loses nothing when it closes."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from atalaya_serving.budget import ByteBudget
from atalaya_serving.datatypes import Encoded
from atalaya_serving.errors import CallCancelled, DeadlineExpired, InferenceFailed, InvalidRequest, QueueFull
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
            assert self._changed.wait_for(lambda: len(self.got) >= count, timeout=60)
        return self.got


def job(answers: Answers, number: int, deadline: float = NO_DEADLINE, cancelled: bool = False) -> Job:
    tile = np.full((1, 4), number, np.float32)
    return Job([tile], [0], 1, answers.receive(number), deadline, lambda: cancelled)


def executor(engine: FakeEngine, capacity: int = 4, budget: ByteBudget | None = None) -> Executor:
    return Executor("m-1", [FakeSlot(engine, 1)], capacity, budget)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
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


def test_a_call_that_waits_is_answered_at_its_deadline_and_not_when_a_slot_is_free() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine)
    queue.submit(job(answers, 0))
    wait_until(lambda: queue.running == 1)
    for number, seconds in ((1, 60), (2, 0.2), (3, 0.05)):  # each earlier than the one before
        queue.submit(job(answers, number, deadline=time.monotonic() + seconds))
    got = answers.wait(2)
    assert sorted(got) == [2, 3]
    assert all(isinstance(outcome.error, DeadlineExpired) for outcome in got.values())
    assert queue.depth == 1
    engine.gate.set()
    queue.close()
    assert engine.computed == [0, 1]


def test_a_call_that_is_withdrawn_leaves_its_place_to_another() -> None:
    engine, answers = FakeEngine(), Answers()
    engine.gate.clear()
    queue = executor(engine, capacity=1)
    running, waiting = job(answers, 0), job(answers, 1)
    queue.submit(running)
    wait_until(lambda: queue.running == 1)
    queue.submit(waiting)
    queue.withdraw(waiting)
    queue.withdraw(running)  # too late, and answered once only
    assert isinstance(answers.wait(1)[1].error, CallCancelled)
    queue.submit(job(answers, 2))
    engine.gate.set()
    queue.close()
    assert engine.computed == [0, 2]


def test_the_inputs_of_all_that_wait_are_bounded_by_their_bytes_over_all_versions() -> None:
    engine, answers, budget = FakeEngine(), Answers(), ByteBudget(40)
    engine.gate.clear()
    one, other = executor(engine, budget=budget), executor(engine, budget=budget)
    one.submit(job(answers, 0))
    other.submit(job(answers, 1))
    with pytest.raises(QueueFull, match="of inputs for calls that wait"):
        one.submit(job(answers, 2))
    assert budget.held == 32
    engine.gate.set()
    answers.wait(2)
    wait_until(lambda: budget.held == 0)
    one.submit(job(answers, 3))
    one.close()
    other.close()
    assert (sorted(answers.got), budget.held) == ([0, 1, 3], 0)


def test_what_is_refused_or_fails_holds_no_bytes() -> None:
    engine, answers, budget = FakeEngine(breaks=True), Answers(), ByteBudget(10**6)
    queue = executor(engine, budget=budget)
    queue.submit(job(answers, 0))
    queue.submit(job(answers, 1, cancelled=True))
    queue.submit(job(answers, 2, deadline=time.monotonic() - 1))
    queue.close()
    assert (len(answers.got), budget.held) == (3, 0)


def test_one_call_larger_than_the_bound_is_taken_where_nothing_else_is_held() -> None:
    engine, answers = FakeEngine(), Answers()
    queue = executor(engine, budget=ByteBudget(1))
    queue.submit(job(answers, 0))
    assert answers.wait(1)[0].error is None
    queue.close()


def test_values_are_decoded_by_the_thread_that_computes_and_wrong_ones_fail_their_call_alone() -> None:
    engine, answers, threads = FakeEngine(), Answers(), []
    queue = executor(engine)

    def encoded(value: float) -> Encoded:
        def decode() -> np.ndarray:
            threads.append(threading.current_thread().name)
            if value < 0:
                raise InvalidRequest("these are no values")
            return np.full((1, 4), value, np.float32)

        return Encoded((1, 4), np.dtype(np.float32), 16, decode)

    for number, value in enumerate((1.0, -1.0, 2.0)):
        queue.submit(Job([encoded(value)], [0], 1, answers.receive(number)))
    got = answers.wait(3)
    queue.close()
    assert set(threads) == {"m-1-slot-0"}
    assert isinstance(got[1].error, InvalidRequest)
    assert engine.computed == [1.0, 2.0]


def test_an_expired_call_is_never_decoded() -> None:
    answers, decoded = Answers(), []
    queue = executor(FakeEngine())
    never = Encoded((1,), np.dtype(object), 1, lambda: decoded.append(1) or np.ones(1))
    queue.submit(Job([never], [0], 1, answers.receive(0), deadline=time.monotonic() - 1))
    assert isinstance(answers.wait(1)[0].error, DeadlineExpired)
    queue.close()
    assert decoded == []
