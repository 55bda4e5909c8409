"""Servers as processes: started on given cores, found by their port, and what they use."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from atalaya_serving.benching.errors import ServerNotStarted

_START_SECONDS = 120.0
_GRACE_SECONDS = 15.0
MIB = 1 << 20


@dataclass(frozen=True)
class Launcher:
    """How a child is started: `prefix` comes before its program, to tie its life to ours."""

    prefix: tuple[str, ...] = ()


class Tree:
    """A server's processes: those that were named, and all below them."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]

    def cpu_seconds(self) -> float:
        """What they used since they started, of those that still live."""
        total = 0.0
        for one in self._all():
            with suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    def memory_mib(self) -> float:
        """Resident memory; pages that processes share count once for each."""
        total = 0
        for one in self._all():
            with suppress(psutil.Error):
                total += one.memory_info().rss
        return total / MIB

    def _all(self) -> list[psutil.Process]:
        found = {one.pid: one for one in self._roots}
        for root in self._roots:
            with suppress(psutil.Error):
                found |= {child.pid: child for child in root.children(recursive=True)}
        return list(found.values())


def listeners(host: str, port: int) -> list[int]:
    """The pids that listen on a port of this machine; empty for another machine, or where we may not look."""
    if not _is_here(host):
        return []
    with suppress(psutil.Error, OSError):
        found = psutil.net_connections("tcp")
        return sorted(
            {
                one.pid
                for one in found
                if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
            }
        )
    return []


def _is_here(host: str) -> bool:
    if host in ("localhost", "127.0.0.1", "::1"):
        return True
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    with suppress(OSError):
        return socket.gethostbyname(host) in own
    return False


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def on_cores(cores: Sequence[int] | None) -> Iterator[None]:
    """Let this thread, and children that it starts inside, run on these cores only; None changes nothing."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class OwnServer:
    """How our server is started."""

    name: str
    flags: tuple[str, ...]
    cores: tuple[int, ...] | None = None


class RunningServer:
    """Our server as a child. Leaving the context ends it."""

    def __init__(self, server: OwnServer, log: Path, launcher: Launcher) -> None:
        self.server, self._log = server, log
        self.grpc_port, self.rest_port = free_port(), free_port()
        ports = ["--port", str(self.grpc_port), "--rest_port", str(self.rest_port)]
        command = [*launcher.prefix, sys.executable, "-m", "atalaya_serving", *ports, *server.flags]
        self.started = time.perf_counter()
        with log.open("wb") as output, on_cores(server.cores):
            self._process = start(command, output.fileno())
        self.tree = Tree([self._process.pid])

    def wait_until_ready(self, model: str) -> None:
        """Wait for the model to serve. Raises ServerNotStarted with the log's last line."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServerNotStarted(f"{self.server.name} ended at its start: {last_line(self._log)}")
            told = self._ask("GET", f"/v2/models/{model}/ready")
            if told is not None and told[0] == 200:
                return
            if reason := self._failure():
                raise ServerNotStarted(f"{self.server.name} cannot serve {model!r}: {reason}")
            time.sleep(0.05)
        raise ServerNotStarted(
            f"{self.server.name} does not serve {model!r} after {_START_SECONDS:.0f} s: {last_line(self._log)}"
        )

    def _failure(self) -> str:
        """Why a model cannot be served, as the repository's index tells; empty while there is hope."""
        told = self._ask("POST", "/v2/repository/index")
        lines = json.loads(told[1]) if told and told[0] == 200 else []
        failed = [line for line in lines if line["state"] == "UNAVAILABLE" and line["version"]]
        return str(failed[0]["reason"]) if failed else ""

    def _ask(self, method: str, path: str) -> tuple[int, bytes] | None:
        """Status and body; None while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=5)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)


def start(command: Sequence[str], output: int, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """A child in a process group of its own, so that ctrl-C reaches only us and we end it in order."""
    return subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0, env=env
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL after the grace."""
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """What a child said last; a JSON log line is told whole."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else "it printed nothing")[:500]
