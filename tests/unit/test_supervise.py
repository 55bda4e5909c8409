"""The supervisor's arithmetic, and its children: small programs of ours, restarted and ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from atalaya.supervise import MAX_LOG_BYTES, Backoff, ChildFailed, Program, Stopped, Supervisor

QUICK = Backoff(first_seconds=0.05, most_seconds=0.2, stable_after_seconds=60)
SLEEPS = "import time; print('here', flush=True); time.sleep(60)"


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    with Supervisor(said.append, QUICK, grace_seconds=1) as made:
        yield made


def program(folder: Path, code: str, *, is_ready: Callable[[], bool] = lambda: True) -> Program:
    return Program("worker", [sys.executable, "-c", code], os.environ, folder / "logs" / "worker.log", is_ready)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_the_wait_doubles_with_each_crash_and_is_bounded() -> None:
    backoff = Backoff(first_seconds=0.5, most_seconds=30)
    assert [backoff.delay(crashes) for crashes in (1, 2, 3, 4, 7, 8, 10_000)] == [0.5, 1, 2, 4, 30, 30, 30]


def test_a_stable_run_starts_the_count_anew() -> None:
    backoff = Backoff(stable_after_seconds=30)
    assert backoff.crashes_in_a_row(5, ran_seconds=29.9) == 6
    assert backoff.crashes_in_a_row(5, ran_seconds=30) == 1


def test_a_crashed_child_is_told_of_with_its_last_line_and_started_again(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    supervisor.start(program(tmp_path, "print('first'); print('the model is broken'); raise SystemExit(3)"))
    until(lambda: supervisor.check() or len(said) == 2)
    log = tmp_path / "logs" / "worker.log"
    assert said[0] == (
        f"the worker ended with exit code 3: the model is broken (all of it in {log}). Starting it again in 0.05 s."
    )
    assert "in 0.1 s" in said[1]
    assert log.read_text().count("the model is broken") == 2


def test_a_killed_child_is_started_again(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, SLEEPS))
    until(lambda: (tmp_path / "logs" / "worker.log").read_text() == "here\n")
    (before,) = children()
    before.kill()
    until(lambda: supervisor.check() or (tmp_path / "logs" / "worker.log").read_text() == "here\nhere\n")
    assert "was ended by SIGKILL" in said[0]
    assert children()[0].pid != before.pid


def test_a_child_that_ends_before_it_is_ready_fails_with_its_last_line(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, "print('no such model')", is_ready=lambda: False))
    with pytest.raises(ChildFailed, match=r"the worker ended with exit code 0 at start: no such model"):
        supervisor.wait_until_ready("worker", within_seconds=30)


def test_a_child_that_is_never_ready_fails_in_time(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, SLEEPS, is_ready=lambda: False))
    with pytest.raises(ChildFailed, match=r"does not answer after 0 s; see .*worker\.log"):
        supervisor.wait_until_ready("worker", within_seconds=0.2)


def test_a_signal_while_waiting_ends_the_wait(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, SLEEPS, is_ready=lambda: os.kill(os.getpid(), signal.SIGTERM) is not None))
    with supervisor.signals_end_it(), pytest.raises(Stopped):
        supervisor.wait_until_ready("worker", within_seconds=30)
    assert supervisor.is_stopping()


def test_signal_handlers_are_put_back(supervisor: Supervisor) -> None:
    before = signal.getsignal(signal.SIGINT)
    with supervisor.signals_end_it():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("stubborn", [False, True])
def test_leaving_ends_a_child_and_its_children_even_a_stubborn_one(stubborn: bool, tmp_path: Path) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    code = (
        f"import os, signal, subprocess, sys, time; {ignore}"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(os.getpid(), grandchild.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "logs" / "worker.log"
    with Supervisor(print, QUICK, grace_seconds=0.5) as supervisor:
        supervisor.start(program(tmp_path, code))
        until(lambda: len(log.read_text().split()) == 2)
        pids = list(map(int, log.read_text().split()))
        assert all(psutil.pid_exists(pid) for pid in pids)
    until(lambda: not any(is_running(pid) for pid in pids), seconds=5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux's kernel ties lives together")
def test_a_child_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from atalaya.supervise import Program, Supervisor
supervisor = Supervisor(print, grace_seconds=1)
code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
supervisor.start(Program("worker", [sys.executable, "-c", code], os.environ, Path({str(tmp_path)!r}) / "w.log", bool))
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        until(lambda: (tmp_path / "w.log").exists() and (tmp_path / "w.log").read_text().strip())
        child = int((tmp_path / "w.log").read_text())
        assert is_running(child)
        parent.kill()
    until(lambda: not is_running(child), seconds=5)


def test_a_log_that_grew_too_large_is_put_aside(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(MAX_LOG_BYTES + 1)
    supervisor.start(program(tmp_path, SLEEPS))
    until(lambda: log.read_text() == "here\n")
    assert (tmp_path / "logs" / "worker.log.1").stat().st_size == MAX_LOG_BYTES + 1


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
