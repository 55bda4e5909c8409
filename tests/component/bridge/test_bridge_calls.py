"""Deadlines, cancellation, an upstream that dies or comes back, and an end without a lost call."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

import builders_tfs as tfs
from atalaya_serving.bridge import upstream as upstream_module
from atalaya_serving.bridge.calls import Scope
from atalaya_serving.bridge.server import Bridge
from atalaya_serving.errors import ServerUnreachable
from atalaya_serving.server import Server
from atalaya_serving.settings import Settings
from builders_bridge import bridging, refusal, upstream, wait_until
from builders_serving import FakeEngine, fake_version, free_port, running

CODES = grpc.StatusCode
X = np.ones((1, 4), np.float32)
EVERY_WAY = pytest.mark.parametrize(
    ("client", "fast"),
    [
        pytest.param(client, fast, id=f"{client} clients, {way} way")
        for client in ("tfs", "v2")
        for fast, way in ((True, "short"), (False, "ordinary"))
    ],
)
BOTH = pytest.mark.parametrize("client", ["tfs", "v2"])
UPSTREAM_PROTOCOL = {"tfs": "grpc", "v2": "tfs-grpc"}


class Caller:
    """The unmodified stub of either protocol; a call multiplies X by the served version."""

    def __init__(self, client: str, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        if client == "tfs":
            self._call = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict
            self._request: Any = tfs.predict_request("m", x=X)
        else:
            self._call = service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelInfer
            self._request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[X.tobytes()])
            self._request.inputs.add(name="x", datatype="FP32", shape=[1, 4])

    def start(self, seconds: float = 60, **more: Any) -> Any:
        return self._call.future(self._request, timeout=seconds, **more)

    def code(self, seconds: float = 60) -> grpc.StatusCode:
        return self.start(seconds).code()


@contextmanager
def caller(client: str, bridge: Bridge) -> Iterator[Caller]:
    made = Caller(client, bridge.grpc.address)
    try:
        yield made
    finally:
        made.channel.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(slot_count=1)


@pytest.fixture
def behind(engine: FakeEngine, tmp_path: Path) -> Iterator[Server]:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, engine) as server:
        yield server
        engine.gate.set()


def counted(server: Server, protocol: str, code: str) -> int:
    """How many calls the upstream itself answered so."""
    return server.repository.resolve("m", "").stats.snapshot().requests.get((protocol, code), 0)


def accepted(server: Server) -> int:
    """The calls that the upstream holds."""
    executor = server.repository.resolve("m", "").executor
    return executor.depth + executor.running


@EVERY_WAY
def test_a_cancelled_call_is_cancelled_upstream(client: str, fast: bool, behind: Server, engine: FakeEngine) -> None:
    engine.gate.clear()
    with bridging(behind.grpc.address, client, fast=fast) as bridge, caller(client, bridge) as call:
        first = call.start()
        wait_until(lambda: len(engine.computed) == 1)
        second = call.start()
        wait_until(lambda: accepted(behind) == 2)
        second.cancel()
        wait_until(lambda: bridge.dataplane.in_flight == 1)
        engine.gate.set()
        assert first.code() == CODES.OK
        wait_until(lambda: counted(behind, UPSTREAM_PROTOCOL[client], "CANCELLED") == 1)
    assert len(engine.computed) == 1


@EVERY_WAY
def test_a_deadline_reaches_the_upstream(client: str, fast: bool, behind: Server, engine: FakeEngine) -> None:
    engine.gate.clear()
    with bridging(behind.grpc.address, client, fast=fast) as bridge, caller(client, bridge) as call:
        first = call.start()
        wait_until(lambda: len(engine.computed) == 1)
        late = call.start(seconds=0.5)
        wait_until(lambda: accepted(behind) == 2 or late.done())
        if accepted(behind) < 2 and late.done():  # it may have ended on its way there
            late = call.start(seconds=10)
            wait_until(lambda: accepted(behind) == 2)
        assert late.code() == CODES.DEADLINE_EXCEEDED
        wait_until(lambda: bridge.dataplane.in_flight == 1)
        engine.gate.set()
        assert first.code() == CODES.OK
        ended = ("DEADLINE_EXCEEDED", "CANCELLED")  # which of the two the upstream's gRPC sees first
        wait_until(lambda: sum(counted(behind, UPSTREAM_PROTOCOL[client], code) for code in ended) >= 1)
    assert len(engine.computed) == 1


def test_the_timeout_of_a_v2_request_is_a_deadline_too(behind: Server, engine: FakeEngine) -> None:
    engine.gate.clear()
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.parameters["timeout"].int64_param = 300_000
    with bridging(behind.grpc.address, "v2") as bridge, grpc.insecure_channel(bridge.grpc.address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        assert refusal(lambda: infer(request, timeout=60))[0] == CODES.DEADLINE_EXCEEDED
        engine.gate.set()


def test_a_stream_that_is_cancelled_cancels_what_is_on_its_way(behind: Server, engine: FakeEngine) -> None:
    engine.gate.clear()
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with bridging(behind.grpc.address, "v2") as bridge, grpc.insecure_channel(bridge.grpc.address) as channel:
        stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request] * 3), timeout=60)
        wait_until(lambda: bridge.dataplane.in_flight == 3)
        stream.cancel()
        wait_until(lambda: bridge.dataplane.in_flight == 0)
        engine.gate.set()


@pytest.mark.parametrize(
    ("client", "path", "body"),
    [
        pytest.param("tfs", "/v1/models/m:predict", '{"instances": [[1, 1, 1, 1]]}', id="tfs"),
        pytest.param(
            "v2",
            "/v2/models/m/infer",
            '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}',
            id="v2",
        ),
    ],
)
def test_a_rest_client_that_hangs_up_cancels_its_call(
    client: str, path: str, body: str, behind: Server, engine: FakeEngine
) -> None:
    engine.gate.clear()
    with bridging(behind.grpc.address, client) as bridge:
        host, port = bridge.rest.address.split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            connection.sendall(f"{head}\r\n\r\n{body}".encode())
            wait_until(lambda: bridge.dataplane.in_flight == 1)
        wait_until(lambda: bridge.dataplane.in_flight == 0)
        engine.gate.set()


@EVERY_WAY
def test_metadata_and_deadline_of_the_caller_are_passed_on(client: str, fast: bool) -> None:
    seen: list[tuple[dict[str, Any], float]] = []

    def infer(_message: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append((dict(context.invocation_metadata()), context.time_remaining()))
        return b""

    class Listener(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            is_inference = details.method.endswith(("/ModelInfer", "/Predict"))
            return grpc.unary_unary_rpc_method_handler(infer) if is_inference else None

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Listener(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with bridging(f"127.0.0.1:{port}", client, fast=fast) as bridge, caller(client, bridge) as call:
        call.start(seconds=30, metadata=(("authorization", "Bearer x"), ("trace-bin", b"\x00\xff"))).code()
    server.stop(0).wait()
    ((metadata, seconds_left),) = seen
    assert metadata["authorization"] == "Bearer x"
    assert metadata["trace-bin"] == b"\x00\xff"
    assert 0 < seconds_left <= 30.2  # gRPC sends tenths of a second, rounded up


@EVERY_WAY
def test_an_upstream_that_dies_mid_call_is_unavailable_at_once_and_found_again(
    client: str, fast: bool, tmp_path: Path
) -> None:
    fake_version(tmp_path, "m", 1)
    port = free_port()
    with upstream(tmp_path, port, slow=True) as first, bridging(first.address, client, fast=fast) as bridge:
        assert bridge.watch.is_ready
        with caller(client, bridge) as call:
            on_its_way = [call.start(seconds=50) for _ in range(4)]
            wait_until(lambda: bridge.dataplane.in_flight == 4)
            killed_at = time.monotonic()
            first.process.kill()
            assert [one.code() for one in on_its_way] == [CODES.UNAVAILABLE] * 4
            assert call.code() == CODES.UNAVAILABLE
            assert time.monotonic() - killed_at < 25  # at once, not at the deadline
            wait_until(lambda: not bridge.dataplane.is_ready())
            assert httpx.get(f"http://{bridge.rest.address}/v2/health/ready").status_code == 503
            assert httpx.get(f"http://{bridge.rest.address}/v2/health/live").status_code == 200
            with running(tmp_path, FakeEngine(), grpc_port=port):
                wait_until(bridge.dataplane.is_ready)
                wait_until(lambda: call.code() == CODES.OK)


@BOTH
def test_without_an_upstream_the_bridge_starts_says_so_and_refuses(client: str) -> None:
    with bridging(f"127.0.0.1:{free_port()}", client) as bridge, caller(client, bridge) as call:
        assert not bridge.dataplane.is_ready()
        code, _ = refusal(call.start().result)
        assert code == CODES.UNAVAILABLE
        path = "/v1/models/m" if client == "tfs" else "/v2/models/m"
        assert httpx.get(f"http://{bridge.rest.address}{path}").status_code == 503
        assert "atalaya_bridge_upstream_ready 0.0" in httpx.get(f"http://{bridge.rest.address}/metrics").text


@BOTH
def test_the_bridge_is_ready_only_while_the_models_named_serve(client: str, behind: Server) -> None:
    with bridging(behind.grpc.address, client, models=("m",)) as bridge:
        assert bridge.dataplane.is_ready()
        behind.repository.unload("m")
        wait_until(lambda: not bridge.dataplane.is_ready())
        behind.repository.load("m")
        wait_until(bridge.dataplane.is_ready)
    with bridging(behind.grpc.address, client, models=("m", "other")) as bridge:
        assert not bridge.dataplane.is_ready()


@EVERY_WAY
def test_versions_that_land_under_load_lose_no_call(client: str, fast: bool, tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    codes: list[grpc.StatusCode] = []
    with (
        running(tmp_path, FakeEngine(seconds=0.001), poll_wait_seconds=0.02) as behind,
        bridging(behind.grpc.address, client, fast=fast) as bridge,
        caller(client, bridge) as call,
        ThreadPoolExecutor(4) as pool,
    ):
        ended = threading.Event()

        def go_on() -> None:
            while not ended.is_set():
                codes.append(call.code())

        callers = [pool.submit(go_on) for _ in range(4)]
        for version in (2, 3):
            seen = len(codes)
            wait_until(lambda seen=seen: len(codes) >= seen + 10)  # type: ignore[misc]
            fake_version(tmp_path, "m", version)
            wait_until(lambda version=version: any(one.version == version for one in bridge.dataplane.answerers()))  # type: ignore[misc]
            enough = len(codes) + 10
            wait_until(lambda enough=enough: len(codes) > enough)  # type: ignore[misc]
        ended.set()
        for one in callers:
            one.result()
    assert set(codes) == {CODES.OK}


@EVERY_WAY
def test_a_bridge_that_ends_answers_what_it_accepted_and_refuses_the_rest(
    client: str, fast: bool, behind: Server, engine: FakeEngine
) -> None:
    engine.gate.clear()
    with bridging(behind.grpc.address, client, fast=fast) as bridge, caller(client, bridge) as call:
        accepted = call.start()
        wait_until(lambda: bridge.dataplane.in_flight == 1)
        stopping = threading.Thread(target=bridge.stop)
        stopping.start()
        wait_until(lambda: bridge.dataplane.is_draining)
        assert call.code() == CODES.UNAVAILABLE
        engine.gate.set()
        assert accepted.code() == CODES.OK
        stopping.join()


@pytest.mark.parametrize("fast", [True, False], ids=["short way", "ordinary way"])
def test_an_upstream_is_left_while_it_computes_and_every_call_to_it_is_answered(
    fast: bool, behind: Server, engine: FakeEngine
) -> None:
    engine.gate.clear()
    way = upstream_module.Upstream(behind.grpc.address, fast=fast)
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    answers: list[object] = []
    for _ in range(3):
        way.start("/inference.GRPCInferenceService/ModelInfer", request.SerializeToString(), Scope(), answers.append)
    wait_until(lambda: accepted(behind) == 3)
    leaving = threading.Thread(target=way.close, daemon=True)
    leaving.start()
    leaving.join(60)
    assert not leaving.is_alive()
    wait_until(lambda: len(answers) == 3)
    assert {type(one) for one in answers} == {ServerUnreachable}


@EVERY_WAY
def test_more_calls_than_may_be_on_their_way_are_refused(
    client: str, fast: bool, behind: Server, engine: FakeEngine
) -> None:
    listen = Settings(grpc_port=free_port(), rest_port=0, queue_size=2)
    with bridging(behind.grpc.address, client, fast=fast, listen=listen) as bridge, caller(client, bridge) as call:
        assert call.code() == CODES.OK
        engine.gate.clear()
        accepted = [call.start() for _ in range(2)]
        wait_until(lambda: bridge.dataplane.in_flight == 2)
        assert call.code() == CODES.RESOURCE_EXHAUSTED
        engine.gate.set()
        assert [one.code() for one in accepted] == [CODES.OK] * 2
        wait_until(lambda: call.code() == CODES.OK)


@BOTH
def test_another_inner_layer_of_grpcio_goes_the_public_way(
    client: str, behind: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upstream_module, "_WANTED", ("NothingLikeThis",))
    with bridging(behind.grpc.address, client) as bridge, caller(client, bridge) as call:
        assert call.code() == CODES.OK
    assert "goes the public way" in caplog.text or "go the public way" in caplog.text


@BOTH
def test_an_upstream_of_the_wrong_protocol_is_told(client: str) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with bridging(f"127.0.0.1:{port}", client) as bridge, caller(client, bridge) as call:
        assert not bridge.watch.is_ready
        assert call.code() == CODES.UNIMPLEMENTED
    server.stop(0).wait()


@BOTH
def test_an_upstream_that_answers_rubbish_is_an_internal_error(client: str) -> None:
    class Rubbish(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _message, _context: b"\xff" * 99)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Rubbish(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with bridging(f"127.0.0.1:{port}", client) as bridge, caller(client, bridge) as call:
        assert call.code() == CODES.INTERNAL
        assert call.code() == CODES.INTERNAL
        path = "/v1/models/m" if client == "tfs" else "/v2/models/m"
        assert httpx.get(f"http://{bridge.rest.address}{path}").status_code == 500
    server.stop(0).wait()
