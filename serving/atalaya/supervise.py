"""Starts child processes, restarts the one that crashes, and ends all of them: a small supervisor.

Children are leaders of process groups of their own, so that a ctrl-C in the terminal reaches only us and we end them
in order.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import FrameType

from atalaya import tie
from atalaya_spec.errors import AtalayaError

_POLL_SECONDS = 0.1
_LOG_TAIL_BYTES = 8192
MAX_LOG_BYTES = 10 * 1024 * 1024


class ChildFailed(AtalayaError):
    """A child ended before it was ready, or was not ready in time; starting again unchanged cannot help."""


class Stopped(Exception):
    """We were told to end while waiting. It never reaches a user."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a restart: doubling with each crash, bounded, from the start after a stable run."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    stable_after_seconds: float = 30.0

    def delay(self, crashes: int) -> float:
        """The wait after so many crashes in a row (1 for the first)."""
        return float(min(self.most_seconds, self.first_seconds * 2 ** min(crashes - 1, 30)))

    def crashes_in_a_row(self, before: int, ran_seconds: float) -> int:
        """The new count after a crash that came `ran_seconds` after the start."""
        return 1 if ran_seconds >= self.stable_after_seconds else before + 1


@dataclass(frozen=True)
class Program:
    """What a child runs. `is_ready` asks it whether it answers; `logs_to` gets all that it prints."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    logs_to: Path
    is_ready: Callable[[], bool]


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started: float
    log_offset: int
    crashes: int = 0
    restart_at: float | None = None
    group: int = field(init=False)

    def __post_init__(self) -> None:
        self.group = self.process.pid


class Supervisor:
    """The children of one `atalaya up`. Use it as a context manager: leaving it ends them all."""

    def __init__(self, say: Callable[[str], None], backoff: Backoff = Backoff(), *, grace_seconds: float) -> None:
        self._say, self._backoff, self.grace_seconds = say, backoff, grace_seconds
        self._children: list[_Child] = []
        self._stop, self._hurry = Event(), Event()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()

    @contextmanager
    def signals_end_it(self) -> Iterator[None]:
        """While inside, SIGINT, SIGTERM and SIGHUP ask for a clean end; a second one skips the grace."""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            (self._hurry if self._stop.is_set() else self._stop).set()

        before = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def is_stopping(self) -> bool:
        """Whether a signal asked for the end."""
        return self._stop.is_set()

    def start(self, program: Program) -> None:
        """Start a child; `wait_until_ready` tells when it answers."""
        self._children.append(_spawn(program))

    def wait_until_ready(self, name: str, within_seconds: float) -> None:
        """Wait for a child to answer. Raises ChildFailed with its last log line, or Stopped."""
        child = next(child for child in self._children if child.program.name == name)
        deadline = time.monotonic() + within_seconds
        while not child.program.is_ready():
            if self._stop.wait(_POLL_SECONDS):
                raise Stopped
            if child.process.poll() is not None:
                raise ChildFailed(f"the {name} {_how_it_ended(child.process)} at start: {_last_words(child)}")
            if time.monotonic() > deadline:
                raise ChildFailed(
                    f"the {name} does not answer after {within_seconds:.0f} s; see {child.program.logs_to}."
                )

    def watch(self) -> None:
        """Restart what crashes until a signal asks for the end."""
        while not self._stop.wait(_POLL_SECONDS):
            self.check()

    def check(self) -> None:
        """Look once at every child: tell of a crash, or restart what has waited long enough."""
        now = time.monotonic()
        for child in self._children:
            if child.restart_at is None and child.process.poll() is not None:
                _end_group(child.group, signal.SIGKILL)
                child.crashes = self._backoff.crashes_in_a_row(child.crashes, now - child.started)
                delay = self._backoff.delay(child.crashes)
                child.restart_at = now + delay
                told = f"the {child.program.name} {_how_it_ended(child.process)}: {_last_words(child)}"
                self._say(f"{told} Starting it again in {delay:g} s.")
            elif child.restart_at is not None and now >= child.restart_at:
                fresh = _spawn(child.program)
                child.process, child.group, child.started = fresh.process, fresh.group, fresh.started
                child.log_offset, child.restart_at = fresh.log_offset, None

    def end_all(self) -> None:
        """SIGTERM to every child's group, SIGKILL after the grace or a second signal; returns when all are gone."""
        for child in reversed(self._children):
            _end_group(child.group, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        while any(child.process.poll() is None for child in self._children):
            if time.monotonic() > deadline or self._hurry.wait(0.05):
                break
        for child in self._children:
            _end_group(child.group, signal.SIGKILL)
            child.process.wait()
        self._children.clear()


def _spawn(program: Program) -> _Child:
    log = program.logs_to
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        offset = output.tell()
        process = subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            [sys.executable, "-m", tie.__name__, str(os.getpid()), *program.command],
            env=dict(program.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    return _Child(program, process, time.monotonic(), offset)


def _end_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _last_words(child: _Child) -> str:
    """The last line that this run of the child printed, and where the rest is."""
    with child.program.logs_to.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(child.log_offset, size - _LOG_TAIL_BYTES))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it printed nothing'} (all of it in {child.program.logs_to})."
