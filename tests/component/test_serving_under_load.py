"""Versions land and go, queues fill, deadlines pass, the server is told to end: no accepted call is lost or doubled."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.server import Server
from builders_serving import FakeEngine, fake_version, free_port, running, save, scale

BOTH_WAYS = pytest.mark.parametrize("fast", [True, False], ids=["short way", "ordinary way"])


def request(value: float, version: str = "", identity: str = "") -> Any:
    made = service_pb2.ModelInferRequest(model_name="m", model_version=version, id=identity)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    made.raw_input_contents.append(np.full((1, 4), value, np.float32).tobytes())
    return made


@contextmanager
def stub_of(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


class Callers:
    """Threads that call without a pause and check every answer: y = version * x with the caller's own id."""

    def __init__(self, address: str, count: int = 8) -> None:
        self.versions: Counter[str] = Counter()
        self.errors: list[tuple[grpc.StatusCode, str]] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(address, number)) for number in range(count)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def are_calling(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _call(self, address: str, number: int) -> None:
        with stub_of(address) as stub:
            value = 0
            while not self._ended.is_set():
                value += 1
                identity = f"{number}-{value}"
                try:
                    answer = stub.ModelInfer(request(value, identity=identity), timeout=20)
                except grpc.RpcError as error:
                    with self._lock:
                        self.errors.append((error.code(), str(error.details())))
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        return
                    continue
                got = np.frombuffer(answer.raw_output_contents[0], np.float32)
                assert answer.id == identity
                assert got.tolist() == [value * int(answer.model_version)] * 4
                with self._lock:
                    self.versions[answer.model_version] += 1


@BOTH_WAYS
def test_versions_that_land_and_go_under_load_lose_no_call(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(seconds=0.001), fast=fast, poll_wait_seconds=0.02) as server:
        assert server.grpc is not None
        with Callers(server.grpc.address) as callers:
            for version in range(1, 7):
                fake_version(tmp_path, "m", version)
                wait_until(lambda version=version: callers.versions[str(version)] > 5)  # type: ignore[misc]
            shutil.rmtree(tmp_path / "m" / "6")
            before = callers.versions["5"]
            wait_until(lambda: callers.versions["5"] > before + 5)
            fake_version(tmp_path, "m", 9, "broken")
            time.sleep(0.1)
            before = callers.versions["5"]
            wait_until(lambda: callers.versions["5"] > before + 5)
    assert callers.errors == []
    assert set(callers.versions) == {"1", "2", "3", "4", "5", "6"}


@BOTH_WAYS
def test_unloading_under_load_answers_or_refuses_every_call(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(seconds=0.002), fast=fast) as server:
        assert server.grpc is not None
        with stub_of(server.grpc.address) as stub, ThreadPoolExecutor(60) as pool:
            calls = [pool.submit(stub.ModelInfer, request(number), timeout=20) for number in range(60)]
            stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="m"))
            codes = Counter(
                "OK" if (error := call.exception()) is None else error.code().name
                for call in calls  # type: ignore[attr-defined]
            )
    assert sum(codes.values()) == 60
    assert set(codes) <= {"OK", "UNAVAILABLE"}


@BOTH_WAYS
def test_beyond_the_queue_calls_get_resource_exhausted_and_the_others_an_answer(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine, fast=fast, queue_size=3) as server:
        assert server.grpc is not None
        with stub_of(server.grpc.address) as stub:
            calls = [stub.ModelInfer.future(request(number), timeout=20) for number in range(12)]
            wait_until(lambda: sum(call.done() for call in calls) == 8)
            refused = [call.exception() for call in calls if call.done()]
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert "3 calls waiting already" in refused[0].details()
            assert server.rest is not None
            body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
            answer = httpx.post(f"http://{server.rest.address}/v2/models/m/infer", json=body, trust_env=False)
            assert answer.status_code == 429
            engine.gate.set()
            assert sum(call.exception() is None for call in calls) == 4
    assert len(engine.computed) == 4


@BOTH_WAYS
def test_an_expired_or_cancelled_call_is_never_computed(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine, fast=fast) as server:
        assert server.grpc is not None
        with stub_of(server.grpc.address) as stub:
            first = stub.ModelInfer.future(request(1), timeout=20)
            wait_until(lambda: engine.computed == [1])
            cancelled = stub.ModelInfer.future(request(3), timeout=20)
            last = stub.ModelInfer.future(request(5), timeout=20)
            executor = server.repository.resolve("m", "").executor
            wait_until(lambda: executor.depth == 2)
            late = stub.ModelInfer.future(request(2), timeout=1)
            by_parameter = request(4)
            by_parameter.parameters["timeout"].int64_param = 1_000_000
            parameter = stub.ModelInfer.future(by_parameter, timeout=20)
            cancelled.cancel()
            assert late.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
            wait_until(parameter.done)
            wait_until(lambda: executor.depth == 1)
            engine.gate.set()
            assert first.exception() is None
            assert last.exception() is None
            assert parameter.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "nothing was computed" in parameter.exception().details()
    assert engine.computed == [1, 5]


def test_a_rest_call_with_a_timeout_that_passes_is_never_computed(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    body: dict[str, Any] = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
    with running(tmp_path, engine) as server, ThreadPoolExecutor(1) as pool:
        assert server.rest is not None
        url = f"http://{server.rest.address}/v2/models/m/infer"
        first = pool.submit(httpx.post, url, json=body, trust_env=False, timeout=60)
        wait_until(lambda: len(engine.computed) == 1)
        late = httpx.post(url, json=body | {"parameters": {"timeout": 300_000}}, trust_env=False, timeout=60)
        assert late.status_code == 504
        assert "nothing was computed" in late.json()["error"]
        engine.gate.set()
        assert first.result().status_code == 200
    assert len(engine.computed) == 1


@BOTH_WAYS
def test_stopping_under_load_answers_every_accepted_call(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(seconds=0.005)
    with running(tmp_path, engine, fast=fast) as server:
        assert server.grpc is not None
        with Callers(server.grpc.address) as callers:
            wait_until(lambda: callers.versions["1"] > 50)
            server.stop()
            wait_until(lambda: not callers.are_calling)
    assert Counter(code.name for code, _ in callers.errors) == {"UNAVAILABLE": 8}, callers.errors
    assert callers.versions["1"] == len(engine.computed)


class ServerProcess:
    """`python -m atalaya_serving` over a real model."""

    def __init__(self, root: Path, *flags: str) -> None:
        self.grpc, self.rest = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self._log = (root.parent / "server.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "atalaya_serving", "--model_repository", str(root), "--port",
             self.grpc.partition(":")[2], "--rest_port", self.rest.partition(":")[2], *flags],
            stdout=self._log, stderr=subprocess.STDOUT, env=os.environ,
        )  # fmt: skip
        wait_until(lambda: "ready grpc=" in self.log() or self.process.poll() is not None, seconds=60)
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def server_process(tmp_path: Path) -> Iterator[ServerProcess]:
    save(scale(1.0), tmp_path / "models", "m")
    made = ServerProcess(tmp_path / "models")
    yield made
    made.close()


def test_sigterm_under_load_answers_every_accepted_call_and_ends_with_0(server_process: ServerProcess) -> None:
    with Callers(server_process.grpc) as callers:
        wait_until(lambda: callers.versions["1"] > 100, seconds=30)
        server_process.process.send_signal(signal.SIGTERM)
        assert server_process.process.wait(20) == 0
        wait_until(lambda: not callers.are_calling)
    assert Counter(code.name for code, _ in callers.errors) == {"UNAVAILABLE": 8}, callers.errors
    assert not any("ancelled" in told for _, told in callers.errors)


def test_the_log_is_json_and_says_where_it_serves(server_process: ServerProcess) -> None:
    lines = [json.loads(line) for line in server_process.log().splitlines()]
    assert lines[-1]["event"] == f"ready grpc={server_process.grpc} rest={server_process.rest}"
    assert lines[-1]["precision"] in ("f32", "bf16", "auto")
    assert {"time", "level", "event", "model", "version", "digest"} <= set(lines[0])


def test_a_taken_port_ends_the_server_with_the_flag_that_changes_it(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    for flag, other, address in (
        ("--port", "--rest_port", server_process.grpc),
        ("--rest_port", "--port", server_process.rest),
    ):
        command = [sys.executable, "-m", "atalaya_serving", "--model_repository", str(tmp_path / "models"), flag,
                   address.partition(":")[2], other, "0"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"choose another with {flag}" in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr


def test_readiness_goes_before_the_drain_and_accepted_calls_still_end(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine) as server, ThreadPoolExecutor(1) as pool:
        assert server.grpc is not None
        with stub_of(server.grpc.address) as stub:
            accepted = stub.ModelInfer.future(request(1), timeout=20)
            wait_until(lambda: engine.computed == [1])
            stopping = pool.submit(server.stop)
            wait_until(lambda: server.dataplane.is_draining)
            assert not server.dataplane.is_ready()
            assert not stopping.done()
            engine.gate.set()
            assert accepted.exception() is None
            stopping.result(60)


def test_the_server_says_that_it_loads_while_it_loads(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    held = threading.Event()

    class SlowToLoad(FakeEngine):
        def load(self, folder: Path, options: Any) -> Any:
            assert held.wait(120)
            return super().load(folder, options)

    with ThreadPoolExecutor(1) as pool:
        entered: list[Server] = []

        def serve() -> None:
            with running(tmp_path, SlowToLoad(), grpc_port=port) as server:
                entered.append(server)

        port = free_port()
        serving = pool.submit(serve)
        with stub_of(f"127.0.0.1:{port}") as stub:
            live = stub.ServerLive(service_pb2.ServerLiveRequest(), wait_for_ready=True, timeout=60)
            assert live.live
            assert not stub.ServerReady(service_pb2.ServerReadyRequest()).ready
            with pytest.raises(grpc.RpcError, match="loading"):
                stub.ModelInfer(request(1))
            held.set()
            serving.result(60)
    assert entered
