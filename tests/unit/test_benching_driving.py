"""Load is bounded, failures are counted apart, and an open loop sees what a stall does to the calls behind it."""

import threading
import time

import pytest

from atalaya_serving.benching.driving import Limits, drive
from atalaya_serving.benching.errors import CallFailed, NothingMeasured

LONG = 60.0


def test_a_count_is_shared_by_all_callers_and_none_is_sent_twice() -> None:
    numbers, lock = [], threading.Lock()

    def call(number: int) -> None:
        with lock:
            numbers.append(number)

    driven = drive([call] * 4, Limits(LONG, requests=100))
    assert sorted(numbers) == list(range(100))
    assert (len(driven.latencies), driven.errors, driven.unsent) == (100, {}, 0)


def test_time_ends_what_has_no_count() -> None:
    for seconds in (0.05, 0.5, 5, 50):  # a busy machine may let nobody call in the first of them
        driven = drive([lambda _: time.sleep(0.001)] * 2, Limits(seconds))
        assert driven.wall_seconds >= seconds
        if driven.latencies:
            return
    pytest.fail("nobody called")


def test_failed_calls_are_counted_by_code_and_have_no_latency() -> None:
    def call(number: int) -> None:
        if number % 2:
            raise CallFailed("RESOURCE_EXHAUSTED", "the queue is full")

    driven = drive([call], Limits(LONG, requests=10))
    assert (len(driven.latencies), driven.errors) == (5, {"RESOURCE_EXHAUSTED": 5})
    assert driven.first_error == "the queue is full"


def test_in_an_open_loop_a_stall_delays_every_call_that_was_due_meanwhile() -> None:
    def call(number: int) -> None:
        if number == 0:
            time.sleep(1)

    driven = drive([call], Limits(20, requests=20, rate=20))
    assert len(driven.latencies) == 20
    assert sum(latency >= 0.5 for latency in driven.latencies) >= 10  # a closed loop has one such call


def test_what_nobody_got_to_is_told() -> None:
    driven = drive([lambda _: time.sleep(0.05)], Limits(0.1, rate=1000))
    assert driven.unsent > 0
    assert driven.unsent + len(driven.latencies) == 100


def test_a_defect_in_a_caller_is_not_swallowed() -> None:
    def call(number: int) -> None:
        raise NothingMeasured("no outputs")

    with pytest.raises(NothingMeasured):
        drive([call], Limits(LONG))


def test_ctrl_c_ends_all_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    main = threading.main_thread()
    called = threading.Event()

    def call(number: int) -> None:
        called.set()
        time.sleep(0.001)

    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout is None and threading.current_thread() is main:
            called.wait(60)
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        drive([call] * 2, Limits(LONG))
    assert threading.active_count() == before
