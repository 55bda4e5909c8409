"""Runs `atalaya assess` as a child process and follows it, so that a page may come and go while it works.

The child prints its progress as JSON lines on stderr and its result as one JSON object on stdout. Its last stderr line
that is no JSON is the reason when it fails. The store is its journal: cancelled, and started again, it goes on.
"""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["running", "done", "failed", "cancelled"]
_KILL_AFTER_SECONDS = 5.0


@dataclass(frozen=True)
class AssessOptions:
    """What to assess, with what. `endpoint` is a running server's host:port, or empty to compute here. `bands` and
    `scale` are as on the command line, which judges them."""

    scene: Path
    model: str
    endpoint: str = ""
    area: Path | None = None
    mask: Path | None = None
    bands: str = ""
    scale: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a job is. `eta_seconds` is None before the first tiles."""

    done: int = 0
    total: int = 0
    tiles_per_second: float = 0.0
    eta_seconds: float | None = None

    @property
    def share(self) -> float:
        """0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


def assess_command(options: AssessOptions) -> list[str]:
    """The command line, with this Python."""
    given = {
        "--endpoint": options.endpoint,
        "--area": options.area,
        "--mask": options.mask,
        "--bands": options.bands,
        "--scale": options.scale,
    }
    # With "=": a value may begin with a dash, as in --scale=-5,5.
    flags = [f"{flag}={value}" for flag, value in given.items() if value]
    command = [sys.executable, "-m", "atalaya", "assess", f"--model={options.model}", *flags]
    return [*command, "--progress=json", "--json", "--", str(options.scene)]


class Job:
    """One child process. Its properties may be read from any thread at any time."""

    def __init__(
        self,
        options: AssessOptions,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> None:
        """`on_refused` is called once, from another thread, when the child failed before it began with any tile."""
        self.options = options
        self._lock = threading.Lock()
        self._progress = Progress()
        self._message = ""
        self._result: Mapping[str, Any] = {}
        self._cancelled = False
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and a list of arguments
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=dict(env) if env is not None else None,
        )
        self._readers = [self._reading(self._read_errors), self._reading(self._read_result)]
        if on_refused is not None:
            self._reading(lambda: self._tell_refused(on_refused))

    def _reading(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._take(line.strip())

    def _take(self, line: str) -> None:
        event = _json_object(line)
        with self._lock:
            if event is not None and event.get("event") == "progress":
                self._progress = progress_of(event)
            elif event is None and line:
                self._message = line

    def _read_result(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            text = output.read()
        with self._lock:
            self._result = _json_object(text.strip()) or {}

    def _tell_refused(self, on_refused: Callable[[], None]) -> None:
        self._process.wait()
        for thread in self._readers:
            thread.join()
        if self.state == "failed" and not self.progress.total:
            on_refused()

    @property
    def state(self) -> State:
        """Where the job is; `done` and `failed` only once all its output was read."""
        code = self._process.poll()
        if code is None or any(thread.is_alive() for thread in self._readers):
            return "running"
        if code == 0:
            return "done"
        return "cancelled" if self._cancelled else "failed"

    @property
    def progress(self) -> Progress:
        """The latest progress."""
        with self._lock:
            return self._progress

    @property
    def message(self) -> str:
        """The child's last words on stderr, without the command's prefix."""
        with self._lock:
            told = self._message
        if not told and self.state == "failed":
            told = f"atalaya assess ended with code {self._process.returncode} and said nothing; see its log."
        return told.removeprefix("atalaya assess: error: ")

    @property
    def assessment_id(self) -> str | None:
        """The assessment that was made, as the result names it."""
        with self._lock:
            return assessment_id_in(self._result)

    def cancel(self) -> None:
        """Ask the child to stop, and make it after a while. What it has done is kept in the store."""
        if self._process.poll() is None:
            self._cancelled = True
            self._process.send_signal(signal.SIGINT)
            timer = threading.Timer(_KILL_AFTER_SECONDS, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until the child has ended and was read. Raises subprocess.TimeoutExpired."""
        self._process.wait(timeout_seconds)
        for thread in self._readers:
            thread.join(timeout_seconds)


class JobBoard:
    """The one job of this dashboard: two at a time would only take each other's cores. Shared by all viewers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None

    @property
    def current(self) -> Job | None:
        """The running job, or the last one until it is cleared."""
        return self._job

    def start(
        self,
        options: AssessOptions,
        env: Mapping[str, str] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> Job:
        """Start a job, or give the one that runs."""
        with self._lock:
            if self._job is None or self._job.state != "running":
                self._job = Job(options, assess_command(options), env, on_refused)
            return self._job

    def clear(self) -> None:
        """Forget a job that has ended."""
        with self._lock:
            if self._job is not None and self._job.state != "running":
                self._job = None


def progress_of(event: Mapping[str, Any]) -> Progress:
    """A progress event of the child, typed."""
    eta = event.get("eta_s")
    return Progress(
        done=int(event.get("done") or 0),
        total=int(event.get("total") or 0),
        tiles_per_second=float(event.get("tiles_per_s") or 0.0),
        eta_seconds=float(eta) if eta is not None else None,
    )


def assessment_id_in(result: Mapping[str, Any]) -> str | None:
    """The assessment's id in the child's result."""
    found = result.get("assessment")
    return str(found) if found is not None else None


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
