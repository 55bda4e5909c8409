"""What one caller does never delays, hurts or hides others: large, odd and unforeseen requests, streams, watches."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving import grpc_convert, grpc_health, grpc_server, grpc_stream, grpc_v2, tensors
from atalaya_serving import server as server_module
from atalaya_serving.server import Server
from builders_serving import FakeEngine, echo, fake_version, running, save

CODES = grpc.StatusCode
BOTH_WAYS = pytest.mark.parametrize("fast", [True, False], ids=["short way", "ordinary way"])


def request(value: float = 1.0, model: str = "m") -> Any:
    made = service_pb2.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    made.raw_input_contents.append(np.full((1, 4), value, np.float32).tobytes())
    return made


def strings(count: int, model: str = "m", *, typed: bool, name: str = "x") -> Any:
    made = service_pb2.ModelInferRequest(model_name=model)
    one = made.inputs.add(name=name, datatype="BYTES", shape=[count // 4, 4])
    if typed:
        one.contents.bytes_contents.extend([b"ab"] * count)
    else:
        made.raw_input_contents.append(b"\x02\0\0\0ab" * count)
    return made


@pytest.fixture
def channels() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def stub_of(server: Server, channels: ExitStack) -> Any:
    assert server.grpc is not None
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = channels.enter_context(grpc.insecure_channel(server.grpc.address, options))
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), str(caught.value.details())


def counted(server: Server) -> dict[tuple[str, str], int]:
    return server.dataplane.refused.snapshot().requests


def wait_until(is_so: Any) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


@BOTH_WAYS
@pytest.mark.parametrize("typed", [True, False], ids=["typed", "raw"])
def test_one_callers_many_strings_keep_no_other_caller_waiting(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch, fast: bool, typed: bool
) -> None:
    """The decoding of the strings does not end; all that is not of their slot goes on."""
    save(echo("BYTES"), tmp_path, "strings")
    save(echo("FP32"), tmp_path, "m")
    entered, held = threading.Event(), threading.Event()
    module, name = (grpc_convert, "of_values") if typed else (tensors, "_objects")
    original = getattr(module, name)

    def slow(*given: Any) -> Any:
        entered.set()
        held.wait(120)
        return original(*given)

    monkeypatch.setattr(module, name, slow)
    with running(tmp_path, fast=fast) as server:
        stub = stub_of(server, channels)
        slow_call = stub.ModelInfer.future(strings(40_000, "strings", typed=typed), timeout=30)
        assert entered.wait(60)
        for _ in range(3):
            assert stub.ModelInfer(request(), timeout=10).raw_output_contents
        assert not slow_call.done()
        held.set()
        assert slow_call.exception() is None


@BOTH_WAYS
@pytest.mark.parametrize("typed", [True, False], ids=["typed", "raw"])
def test_what_is_declared_is_checked_before_anything_is_decoded(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch, fast: bool, typed: bool
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(grpc_convert, "of_values", decoded)
    monkeypatch.setattr(tensors, "_objects", decoded)
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(), fast=fast) as server:
        stub = stub_of(server, channels)
        for model, name, code, told in (
            ("nothing", "x", CODES.NOT_FOUND, "no model 'nothing'"),
            ("m", "z", CODES.INVALID_ARGUMENT, "input 'x' of model 'm' is missing"),
            ("m", "x", CODES.INVALID_ARGUMENT, "is FP32, the request has BYTES"),
        ):
            given = strings(40_000, model, typed=typed, name=name)
            got = refusal(lambda given=given: stub.ModelInfer(given, timeout=10))  # type: ignore[misc]
            assert got[0] == code
            assert told in got[1]


def test_a_stream_is_parsed_by_its_own_thread(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio would parse on the thread that reads all calls."""
    fake_version(tmp_path, "m", 1)
    entered, held = threading.Event(), threading.Event()
    original = grpc_stream.parse_request

    def slow(message: bytes) -> Any:
        entered.set()
        held.wait(120)
        return original(message)

    monkeypatch.setattr(grpc_stream, "parse_request", slow)
    with running(tmp_path, FakeEngine()) as server:
        stub = stub_of(server, channels)
        answers = stub.ModelStreamInfer(iter([request()]), timeout=30)
        assert entered.wait(60)
        assert stub.ModelInfer(request(), timeout=10).raw_output_contents
        held.set()
        assert [answer.error_message for answer in answers] == [""]


@BOTH_WAYS
@pytest.mark.parametrize("part", ["parse_request", "to_response"])
def test_a_surprise_is_an_internal_error_and_neither_a_hanging_call_nor_a_dead_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fast: bool, part: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    fake_version(tmp_path, "m", 1)
    with ExitStack() as channels, running(tmp_path, FakeEngine(), fast=fast) as server:
        stub = stub_of(server, channels)
        module = grpc_stream if part == "parse_request" and not fast else grpc_v2
        for _ in range(20):  # more than are asked for in advance
            with monkeypatch.context() as patch:
                patch.setattr(module, part, broken)
                code, told = refusal(lambda: stub.ModelInfer(request(), timeout=10))
            assert code in ({CODES.INTERNAL} if fast else {CODES.INTERNAL, CODES.UNKNOWN})
            assert "\n" not in told
        assert stub.ModelInfer(request(), timeout=10).raw_output_contents
    assert "nobody thought of this" in caplog.text
    assert "Traceback" in caplog.text


def test_calls_that_cannot_even_begin_leave_the_lane_open(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine()) as server:
        stub = stub_of(server, channels)
        with monkeypatch.context() as patch:
            patch.setattr(grpc_server.grpc_fast.FastCall, "start", lambda _self: 1 / 0)
            codes = {refusal(lambda: stub.ModelInfer(request(), timeout=60))[0] for _ in range(20)}
        assert codes == {CODES.INTERNAL}
        assert stub.ModelInfer(request(), timeout=10).raw_output_contents


@BOTH_WAYS
def test_every_refusal_is_counted(tmp_path: Path, channels: ExitStack, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine(), fast=fast, max_message_bytes=10_000) as server:
        stub = stub_of(server, channels)
        wrong = request()
        wrong.raw_input_contents[0] = b"123"
        refusal(lambda: stub.ModelInfer(wrong))
        wait_until(lambda: counted(server).get(("grpc", "INVALID_ARGUMENT")) == 1)
        assert [bool(answer.error_message) for answer in stub.ModelStreamInfer(iter([wrong, request(), wrong]))] == [
            True, False, True,
        ]  # fmt: skip
        wait_until(lambda: counted(server).get(("grpc", "INVALID_ARGUMENT")) == 3)
        refusal(lambda: stub.ModelInfer(request(model="nothing")))
        wait_until(lambda: counted(server).get(("grpc", "NOT_FOUND")) == 1)
        if fast:  # grpcio's ordinary way is not told
            assert refusal(lambda: stub.ModelInfer(strings(40_000, typed=False)))[0] == CODES.RESOURCE_EXHAUSTED
            wait_until(lambda: counted(server).get(("grpc", "RESOURCE_EXHAUSTED")) == 1)
        assert server.rest is not None
        told = httpx.get(f"http://{server.rest.address}/metrics", trust_env=False).text
    assert 'atalaya_requests_total{code="INVALID_ARGUMENT",model="",protocol="grpc",version=""} 3.0' in told


def test_a_cancelled_call_leaves_its_place_at_once(tmp_path: Path, channels: ExitStack) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine, queue_size=4) as server:
        stub = stub_of(server, channels)
        executor = server.repository.resolve("m", "").executor
        first = stub.ModelInfer.future(request(1), timeout=30)
        wait_until(lambda: executor.running == 1)
        waiting = [stub.ModelInfer.future(request(2), timeout=30) for _ in range(4)]
        wait_until(lambda: executor.depth == 4)
        for call in waiting:
            call.cancel()
        wait_until(lambda: executor.depth == 0)
        last = stub.ModelInfer.future(request(3), timeout=30)
        wait_until(lambda: executor.depth == 1)
        engine.gate.set()
        assert (first.exception(), last.exception()) == (None, None)
    assert engine.computed == [1, 3]


@BOTH_WAYS
def test_a_call_is_told_at_its_timeout_while_the_engine_is_busy(
    tmp_path: Path, channels: ExitStack, fast: bool
) -> None:
    """Triton's request parameter, which only the server knows."""
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    with running(tmp_path, engine, fast=fast) as server:
        stub = stub_of(server, channels)
        first = stub.ModelInfer.future(request(1), timeout=30)
        wait_until(lambda: engine.computed == [1])
        late = request(2)
        late.parameters["timeout"].int64_param = 100_000
        code, told = refusal(lambda: stub.ModelInfer(late, timeout=20))
        assert (code, "nothing was computed" in told) == (CODES.DEADLINE_EXCEEDED, True)
        engine.gate.set()
        assert first.exception() is None
    assert engine.computed == [1]


@BOTH_WAYS
def test_inputs_that_wait_are_bounded_by_their_bytes(tmp_path: Path, channels: ExitStack, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    rows = np.ones((500, 4), np.float32)
    large = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[rows.tobytes()])
    large.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    with running(tmp_path, engine, fast=fast, max_message_bytes=10_000) as server:  # and 8 times that may wait
        stub = stub_of(server, channels)
        calls = [stub.ModelInfer.future(large, timeout=30) for _ in range(20)]
        wait_until(lambda: sum(call.done() for call in calls) == 10)
        refused = [call.exception() for call in calls if call.done()]
        assert {error.code() for error in refused} == {CODES.RESOURCE_EXHAUSTED}
        assert "of inputs for calls that wait" in refused[0].details()
        engine.gate.set()
        assert sum(call.exception() is None for call in calls) == 10
        assert stub.ModelInfer(large, timeout=10).raw_output_contents


class Watch:
    """An open health Watch; what it hears is put in a queue, at the end its code."""

    def __init__(self, stub: Any, service: str) -> None:
        self.heard: queue.Queue[Any] = queue.Queue()
        self.call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for answer in self.call:
                self.heard.put(answer.status)
            self.heard.put(CODES.OK)
        except grpc.RpcError as error:
            self.heard.put(error.code())

    def next(self) -> Any:
        return self.heard.get(timeout=60)


STATES = health_pb2.HealthCheckResponse


def test_a_hundred_health_watches_hear_of_every_change_and_hold_no_thread(tmp_path: Path, channels: ExitStack) -> None:
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine()) as server:
        assert server.grpc is not None
        stub = health_pb2_grpc.HealthStub(channels.enter_context(grpc.insecure_channel(server.grpc.address)))
        watches = [Watch(stub, "m") for _ in range(100)]
        assert {watch.next() for watch in watches} == {STATES.SERVING}
        assert sum("grpc" in thread.name for thread in threading.enumerate()) < 60
        server.repository.unload("m")
        assert {watch.next() for watch in watches} == {STATES.NOT_SERVING}
        watches[0].call.cancel()
        server.repository.load("m")
        assert {watch.next() for watch in watches[1:]} == {STATES.SERVING}
        server.dataplane.is_draining = True
        assert {watch.next() for watch in watches[1:]} == {STATES.NOT_SERVING}
        assert {watch.next() for watch in watches[1:]} == {CODES.OK}


def test_a_watch_beyond_the_bound_is_refused_and_one_that_ends_makes_room(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "Health", lambda dataplane: grpc_health.Health(dataplane, max_watches=2))
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine()) as server:
        assert server.grpc is not None
        stub = health_pb2_grpc.HealthStub(channels.enter_context(grpc.insecure_channel(server.grpc.address)))
        taken = [Watch(stub, ""), Watch(stub, "unknown")]
        assert [watch.next() for watch in taken] == [STATES.SERVING, STATES.SERVICE_UNKNOWN]
        assert Watch(stub, "").next() == CODES.RESOURCE_EXHAUSTED
        assert stub.Check(health_pb2.HealthCheckRequest()).status == STATES.SERVING
        taken[0].call.cancel()
        wait_until(lambda: Watch(stub, "").next() == STATES.SERVING)


def test_a_stream_beyond_the_bound_is_refused_and_one_that_ends_makes_room(
    tmp_path: Path, channels: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_v2, "InferStream", lambda dataplane: grpc_stream.InferStream(dataplane, max_streams=1))
    fake_version(tmp_path, "m", 1)
    with running(tmp_path, FakeEngine()) as server:
        stub = stub_of(server, channels)
        requests: queue.Queue[Any] = queue.Queue()
        first = stub.ModelStreamInfer(iter(requests.get, None), timeout=30)
        requests.put(request())
        assert next(first).error_message == ""
        code, told = refusal(lambda: list(stub.ModelStreamInfer(iter([request()]), timeout=10)))
        assert (code, "1 streams are open" in told) == (CODES.RESOURCE_EXHAUSTED, True)
        requests.put(None)
        assert list(first) == []
        wait_until(lambda: not isinstance(_answers(stub), grpc.RpcError))


def _answers(stub: Any) -> Any:
    try:
        return list(stub.ModelStreamInfer(iter([request()]), timeout=10))
    except grpc.RpcError as error:
        return error


@BOTH_WAYS
def test_after_a_storm_of_cancelled_late_and_refused_calls_nothing_is_held(
    tmp_path: Path, channels: ExitStack, fast: bool
) -> None:
    """Versions come and go meanwhile. Every call ends, each place and byte is free again, right answers are right."""
    fake_version(tmp_path, "m", 1)
    engine = FakeEngine(seconds=0.002)
    with running(tmp_path, engine, fast=fast, queue_size=8, poll_wait_seconds=0.02) as server:
        stub, rng = stub_of(server, channels), random.Random(7)
        calls = []
        for number in range(600):
            if number % 100 == 50:
                fake_version(tmp_path, "m", 1 + number // 100 % 3)
                server.repository.load("m")
            call = stub.ModelInfer.future(request(number), timeout=rng.choice([0.001, 0.01, 20]))
            calls.append((number, call))
            if rng.random() < 0.3:
                calls[rng.randrange(max(0, len(calls) - 10), len(calls))][1].cancel()
            time.sleep(rng.choice([0, 0, 0.001]))
        codes = set()
        for number, call in calls:
            try:
                answer = call.result(timeout=30)
            except grpc.FutureCancelledError:
                continue
            except grpc.RpcError as error:
                codes.add(error.code())
                continue
            got = np.frombuffer(answer.raw_output_contents[0], np.float32)
            assert got.tolist() == [number * int(answer.model_version)] * 4
            codes.add(CODES.OK)
        assert CODES.OK in codes
        assert codes <= {CODES.OK, CODES.DEADLINE_EXCEEDED, CODES.RESOURCE_EXHAUSTED, CODES.CANCELLED}
        wait_until(lambda: server.repository._loader._budget.held == 0)
        (served,) = server.repository.served()
        wait_until(lambda: (served.executor.depth, served.executor.running) == (0, 0))
        assert stub.ModelInfer(request(), timeout=10).raw_output_contents
