"""Starts, watches and ends processes, and knows a process again by its id and start time together.

An id alone may belong to somebody else after a crash; the start time tells.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.errors import ClusterFault

_START_TIME_FIELD = 19  # of /proc/PID/stat after the name in parentheses; see proc(5)


@dataclass(frozen=True)
class ProcessId:
    """A process that stays itself: the same pid with another start time is another process."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        return cls(pid, _start_ticks(pid))

    def is_alive(self) -> bool:
        try:
            return _start_ticks(self.pid) == self.start_ticks
        except (FileNotFoundError, ProcessLookupError):
            return False

    def kill(self, timeout_seconds: float = 60) -> None:
        """End this process and nobody else's, and wait until it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.is_alive():
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], timeout_seconds)[0]:
                raise ClusterFault(f"process {self.pid} did not end within {timeout_seconds:.0f} s of SIGKILL")
        finally:
            os.close(handle)


def _start_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[_START_TIME_FIELD])


class Processes:
    """The running components by name, each with its log file."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
                start_new_session=True,  # a ctrl-C at the terminal ends the test run, which then ends the cluster
            )

    def stop(self, name: str) -> None:
        """End one component as a person would: SIGTERM to the program behind nsenter, then wait."""
        process = self._running.pop(name)
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        process.wait(timeout=60)

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 15) -> str:
        if not self.log(name).is_file():
            return ""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])

    def check(self) -> None:
        """Raise with its last words when a component has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ClusterFault(
                    f"{name} ended with code {process.returncode}; the end of {self.log(name)}:\n{self.log_tail(name)}"
                )

    def reap(self) -> None:
        """Collect the processes after their namespace was ended."""
        for process in self._running.values():
            process.wait(timeout=60)
        self._running.clear()

    @property
    def ids(self) -> dict[str, ProcessId]:
        return {name: ProcessId.of(process.pid) for name, process in self._running.items() if process.poll() is None}
