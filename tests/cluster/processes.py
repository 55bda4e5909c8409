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

STOP_SECONDS = 5
_START_TIME_FIELD = 19  # of /proc/PID/stat after the name in parentheses; see proc(5)


@dataclass(frozen=True)
class ProcessId:
    """A process that stays itself: the same pid with another start time is another process."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        return cls(pid, int(_stat(pid)[_START_TIME_FIELD]))

    def is_alive(self) -> bool:
        """A zombie is dead, though nobody has asked for its exit code yet."""
        try:
            fields = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return int(fields[_START_TIME_FIELD]) == self.start_ticks and fields[0] != "Z"

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


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces; the state comes first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Processes:
    """The running components by name, each with its log file."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[list[str], Mapping[str, str]]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._commands[name] = [str(part) for part in command], dict(environment or {})
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._commands[name][0],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
                start_new_session=True,  # a ctrl-C at the terminal ends the test run, which then ends the cluster
            )

    def stop(self, name: str) -> None:
        """End one component as a kubelet would: SIGTERM to the program behind nsenter, then SIGKILL."""
        process = self._running.pop(name)
        programs = psutil.Process(process.pid).children() if process.poll() is None else []
        for act in (psutil.Process.terminate, psutil.Process.kill):
            for program in programs:
                with contextlib.suppress(psutil.NoSuchProcess):
                    act(program)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return
        raise ClusterFault(f"{name} did not end {STOP_SECONDS} s after SIGKILL")

    def restart(self, name: str) -> None:
        """End a component and start it as before: what an upgrade or a crash does to a cluster."""
        command, environment = self._commands[name]
        self.stop(name)
        self.start(name, command, environment)

    def wait(self, name: str, timeout_seconds: float = 60) -> int:
        """The exit code of a process that ends by itself; `forget` it then, or `check` tells of it."""
        return self._running[name].wait(timeout_seconds)

    def forget(self, name: str) -> None:
        del self._running[name]

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
    def names(self) -> list[str]:
        return list(self._running)

    @property
    def ids(self) -> dict[str, ProcessId]:
        return {name: ProcessId.of(process.pid) for name, process in self._running.items() if process.poll() is None}
