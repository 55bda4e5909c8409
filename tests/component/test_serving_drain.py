"""The end of a server: one deadline for all of it, idle streams cut at once, loads that are not waited for."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.server import EXIT_CUT_SHORT, Server
from atalaya_serving.settings import Settings
from builders_serving import FakeEngine, fake_version, free_port, running

END = object()


def request(value: float) -> Any:
    made = service_pb2.ModelInferRequest(model_name="m", id=str(value))
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    made.raw_input_contents.append(np.full((1, 4), value, np.float32).tobytes())
    return made


class Stream:
    """An open ModelStreamInfer: what is put goes out, answers are read in order."""

    def __init__(self, stub: Any) -> None:
        self._out: queue.Queue[Any] = queue.Queue()
        self.answers = stub.ModelStreamInfer(iter(self._out.get, END))

    def send(self, value: float) -> None:
        self._out.put(request(value))

    def close(self) -> None:
        self._out.put(END)


@contextmanager
def stream_to(server: Server) -> Iterator[Stream]:
    assert server.grpc is not None
    with grpc.insecure_channel(server.grpc.address) as channel:
        stream = Stream(service_pb2_grpc.GRPCInferenceServiceStub(channel))
        try:
            yield stream
        finally:
            stream.close()


def wait_until(is_so: Any) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def stopped_within(server: Server, seconds: float) -> bool:
    """Whether a stop is over long before the drain's time; `seconds` is far from both."""
    ended = threading.Thread(target=server.stop, daemon=True)
    ended.start()
    ended.join(seconds)
    return not ended.is_alive()


def test_an_idle_stream_is_ended_at_once_with_a_status_that_is_tried_again_elsewhere(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(), drain_seconds=60) as server, stream_to(server) as stream:
        stream.send(1)
        assert next(stream.answers).infer_response.id == "1"
        assert stopped_within(server, 20)
        with pytest.raises(grpc.RpcError) as told:
            next(stream.answers)
        assert told.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in told.value.details()


def test_a_stream_with_a_request_in_flight_answers_it_first(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine, drain_seconds=60) as server, stream_to(server) as stream:
        for value in (1, 2, 3):
            stream.send(value)
        executor = server.repository.resolve("m", "").executor
        wait_until(lambda: executor.running + executor.depth == 3)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: server.dataplane.is_draining)
        time.sleep(0.6)  # longer than a stream takes to find itself idle
        stream.send(4)
        engine.gate.set()
        told = [next(stream.answers) for _ in range(4)]
        assert [answer.infer_response.id for answer in told] == ["1", "2", "3", "4"]
        assert [bool(answer.error_message) for answer in told] == [False, False, False, True]
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            next(stream.answers)
        stopping.join(20)
        assert not stopping.is_alive()


def test_a_caller_that_goes_on_sending_does_not_hold_the_server(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(), drain_seconds=60) as server, stream_to(server) as stream:
        is_over = threading.Event()

        def send() -> None:
            while not is_over.wait(0.02):
                stream.send(1)

        def read() -> None:
            with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
                for _ in stream.answers:
                    pass

        threads = [threading.Thread(target=one) for one in (send, read)]
        for thread in threads:
            thread.start()
        try:
            assert stopped_within(server, 20)
        finally:
            is_over.set()
            for thread in threads:
                thread.join(20)


def test_all_phases_of_the_end_share_one_deadline(tmp_path: Path) -> None:
    """A call that never ends, over each protocol: every phase has something to wait for."""
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=2)
    engine.gate.clear()
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
    with running(tmp_path, engine, drain_seconds=1) as server, ThreadPoolExecutor(2) as pool:
        assert server.grpc is not None
        assert server.rest is not None
        url = f"http://{server.rest.address}/v2/models/m/infer"
        with stream_to(server) as stream:
            stream.send(1)
            wait_until(lambda: len(engine.computed) == 1)
            rest = pool.submit(httpx.post, url, json=body, trust_env=False, timeout=30)
            wait_until(lambda: len(engine.computed) == 2)
            waits: list[float] = []
            told = [server.grpc.stop, server.rest.stop, server.repository.stop]
            server.grpc.stop = lambda grace: (waits.append(grace), told[0](grace))[1]  # type: ignore[method-assign]
            server.rest.stop = lambda grace: (waits.append(grace), told[1](grace))[1]  # type: ignore
            server.repository.stop = lambda grace: (waits.append(grace), told[2](grace))[1]  # type: ignore
            assert server.stop() is False
            assert waits == [0.0, 0.0, 0.0]  # waiting for the calls took the whole second
            engine.gate.set()
            assert rest.result().status_code == 503
            assert "shutting down" in rest.result().json()["error"]


SLOW_TO_LOAD = """
import sys, threading
from pathlib import Path
from dataclasses import replace
from builders_serving import FakeEngine
from atalaya_serving.server import Server
from atalaya_serving.settings import Settings

class Slow(FakeEngine):
    def load(self, folder, options):
        print("loading", folder.parent.name, flush=True)
        if folder.parent.name == "slow":
            threading.Event().wait(300)
        return super().load(folder, options)

Server(Settings(model_repository=Path(sys.argv[1]), grpc_port=int(sys.argv[2]), rest_port=0), Slow()).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_model_loads_ends_the_server_as_always(tmp_path: Path, number: signal.Signals) -> None:
    for name in ("fast", "slow", "tardy"):
        fake_version(tmp_path, name, 1)
    command = [sys.executable, "-c", SLOW_TO_LOAD, str(tmp_path), str(free_port())]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[1], *sys.path]))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            assert [next(process.stdout), next(process.stdout)] == ["loading fast\n", "loading slow\n"]
            process.send_signal(number)
            assert process.wait(20) == 0
            assert process.stdout.read() == ""  # the third was not begun
        finally:
            process.kill()


NEVER_DONE = """
import sys
import threading
import time
from pathlib import Path
from builders_serving import FakeEngine
from atalaya_serving import logs
from atalaya_serving.server import Server
from atalaya_serving.settings import Settings

logs.set_up("INFO", "json")
engine = FakeEngine()
engine.gate.clear()


def tell() -> None:
    while len(engine.computed) < 2:
        time.sleep(0.01)
    print("both are here", flush=True)


threading.Thread(target=tell, daemon=True).start()
settings = Settings(model_repository=Path(sys.argv[1]), grpc_port=int(sys.argv[2]), rest_port=0, drain_seconds=0.3)
sys.exit(Server(settings, engine).run())
"""


@contextmanager
def process_of(program: str, root: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server in a process of its own, and its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", program, str(root), address.rpartition(":")[2]]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[1], *sys.path]))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        try:
            yield process, address
        finally:
            process.kill()


def test_a_drain_that_cuts_calls_off_says_so_and_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with process_of(NEVER_DONE, tmp_path) as (process, address), grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(30)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        wait_until(lambda: stub.ServerReady(service_pb2.ServerReadyRequest()).ready)
        calls = [stub.ModelInfer.future(request(value)) for value in (1, 2)]
        assert process.stdout is not None
        assert any("both are here" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == EXIT_CUT_SHORT
        assert "2 accepted calls were not answered in the 0.3 s of --drain_seconds" in process.stdout.read()
        assert [call.exception(10) is not None for call in calls] == [True, True]


def test_a_stop_while_the_poll_loads_a_version_does_not_wait_for_it(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    held = threading.Event()

    class SlowAtTwo(FakeEngine):
        def load(self, folder: Path, options: Any) -> Any:
            made = super().load(folder, options)
            if folder.name == "2":
                held.wait(60)
            return made

    engine = SlowAtTwo()
    settings = Settings(model_repository=tmp_path, grpc_port=free_port(), rest_port=0, drain_seconds=60)
    server = Server(replace(settings, poll_wait_seconds=0.02), engine)
    server.start()
    fake_version(tmp_path, "m", 2)
    wait_until(lambda: "2" in engine.loads)
    try:
        assert server.stop() is False
    finally:
        held.set()
