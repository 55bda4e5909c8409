"""Builders for tests of the bridge: one in this process, and upstreams that are processes of their own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import httpx

from atalaya_serving.bridge.server import Bridge
from atalaya_serving.bridge.settings import BridgeSettings
from atalaya_serving.settings import Settings
from builders_serving import free_port

_SLOW = """
import sys, threading
from pathlib import Path
from builders_serving import FakeEngine, running
with running(Path(sys.argv[1]), FakeEngine(seconds=60), grpc_port=int(sys.argv[2]), rest_port=int(sys.argv[3])):
    threading.Event().wait()
"""


@contextmanager
def bridging(upstream: str, client: str, *, fast: bool = True, **changes: object) -> Iterator[Bridge]:
    """A bridge for clients of `client` (tfs or v2) before the gRPC address `upstream`."""
    listen = Settings(grpc_port=free_port(), rest_port=free_port(), drain_seconds=10)
    settings = replace(BridgeSettings(upstream, client, listen, watch_seconds=0.1), **changes)  # type: ignore[arg-type]
    bridge = Bridge(settings, fast=fast)
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop()


@dataclass
class Upstream:
    """A server in a process of its own."""

    address: str
    rest: str
    process: "subprocess.Popen[bytes]"

    def metrics(self) -> str:
        return httpx.get(f"http://{self.rest}/metrics").text


@contextmanager
def upstream(
    root: Path, grpc_port: int | None = None, *, slow: bool = False, backend: str = "", config: Path | None = None
) -> Iterator[Upstream]:
    """Our server over the repository `root`, or a model config file of TensorFlow Serving's.

    `slow` computes a minute a call, on models of builders_serving's fake.
    """
    ports = [grpc_port or free_port(), free_port()]
    models = ["--model_config_file", str(config)] if config else ["--model_repository", str(root)]
    where = ["--port", str(ports[0]), "--rest_port", str(ports[1]), *models]
    command = ["-m", "atalaya_serving", *where, *(["--backend", backend] if backend else [])]
    if slow:
        command = ["-c", _SLOW, str(root), *map(str, ports)]
    started = subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
    try:
        made = Upstream(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", started)
        wait_until(lambda: _is_ready(made), 90)
        yield made
    finally:
        started.kill()
        started.wait()


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """How a gRPC call ends that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    raise AssertionError("the call did not fail")


def _is_ready(server: Upstream) -> bool:
    assert server.process.poll() is None, "the upstream ended"
    try:
        return httpx.get(f"http://{server.rest}/v2/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
