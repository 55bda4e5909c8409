"""The load benchmark against real servers: what it says it sent is what the server counted, and it says why it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from atalaya_serving.benching.errors import CallFailed, InvalidPlan, NoServer, NothingMeasured, UnknownModel
from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.benching.load import LoadRequest, LoadRun
from atalaya_serving.benching.plans import LoadPlan
from atalaya_serving.benching.records import PROTOCOLS, Protocol
from atalaya_serving.benching.targets import Foreign
from atalaya_serving.server import Server
from atalaya_spec.errors import AtalayaError
from builders_serving import FakeEngine, echo, fake_version, free_port, running, save

PLAN = LoadPlan(concurrency=(2,), batches=(1, 3), rounds=2, seconds=5.0, requests=10, timeout_seconds=20)


def addresses(server: Server) -> tuple[str, str]:
    assert server.grpc is not None
    assert server.rest is not None
    return server.grpc.address, server.rest.address


def load(
    *against: str, model: str = "m", plan: LoadPlan = PLAN, protocols: tuple[Protocol, ...] = PROTOCOLS,
    inputs: tuple[InputSpec, ...] = (),
) -> LoadRun:  # fmt: skip
    run = LoadRun(LoadRequest(model, plan, protocols, against=(Foreign(against),), inputs=inputs))
    run.measure(lambda line: None)
    return run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    fake_version(tmp_path, "m", 1)
    return tmp_path


def test_the_server_counted_every_call_and_image_over_every_protocol(fake: Path) -> None:
    engine = FakeEngine()
    with running(fake, engine) as server:
        report = load(*addresses(server)).report()
    assert {row.cell.protocol for row in report.rows} == set(PROTOCOLS)
    assert all((row.latency.count, row.errors, row.rounds) == (20, 0, 2) for row in report.rows)
    (audit,) = report.audits
    assert audit.agrees
    measured = sum(sample.requests for sample in report.samples)
    warm_ups = 3 * len(report.rows)
    assert (audit.sent_requests, audit.counted_requests) == (measured + warm_ups, len(engine.computed))
    assert audit.counted_images == 4 * 20 * (1 + 3) + 4 * 3 * (1 + 3)
    assert report.complete


@pytest.mark.parametrize("datatype", ["FP16", "INT64", "BOOL", "BYTES", "UINT8"])
def test_every_datatype_travels_over_every_protocol(tmp_path: Path, datatype: str) -> None:
    save(echo(datatype), tmp_path, "m")
    protocols: tuple[Protocol, ...] = PROTOCOLS if datatype != "FP16" else PROTOCOLS[:3]  # TFS' JSON has no half
    plan = LoadPlan(concurrency=(1,), batches=(2,), rounds=1, seconds=5.0, requests=2)
    with running(tmp_path) as server:
        report = load(*addresses(server), plan=plan, protocols=protocols).report()
    assert [row.errors for row in report.rows] == [0] * len(protocols)


def test_a_slow_server_is_seen_in_its_latency(fake: Path) -> None:
    with running(fake, FakeEngine(seconds=0.05, slot_count=1)) as server:
        report = load(*addresses(server), protocols=("v2-grpc",), plan=LoadPlan((1, 4), (1,), requests=8)).report()
    alone, queued = report.rows
    assert alone.latency.p50_ms is not None
    assert alone.latency.p50_ms >= 50
    assert queued.latency.p50_ms is not None
    assert queued.latency.p50_ms >= 150  # three calls are before it


def test_a_rate_beyond_the_server_is_told_as_overload(fake: Path) -> None:
    plan = LoadPlan((2,), (1,), rates=(500.0,), rounds=1, seconds=0.5)
    with running(fake, FakeEngine(seconds=0.05, slot_count=1)) as server:
        (row,) = load(*addresses(server), protocols=("v2-rest",), plan=plan).report().rows
    assert row.unsent > 0
    assert "overloaded" in row.marks


def test_one_address_is_enough_for_what_it_speaks(fake: Path) -> None:
    with running(fake, FakeEngine()) as server:
        over_grpc, over_rest = (load(address).report() for address in addresses(server))
    assert {row.cell.protocol for row in over_grpc.rows} == {"v2-grpc", "tfs-grpc"}
    assert {row.cell.protocol for row in over_rest.rows} == {"v2-rest", "tfs-rest"}
    assert (over_grpc.audits, len(over_rest.audits)) == ((), 1)


def test_a_local_server_is_found_by_its_port_and_its_memory_told(fake: Path) -> None:
    with running(fake, FakeEngine()) as server:
        report = load(*addresses(server), protocols=("v2-grpc",)).report()
    assert all(row.memory_mib is not None and row.memory_mib > 1 for row in report.rows)
    assert all(row.server_cpu_us_per_image is not None for row in report.rows)


def _refused(call, kind: type[AtalayaError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nobody_there_is_one_line() -> None:
    told = _refused(lambda: load(f"127.0.0.1:{free_port()}"), NoServer)
    assert "start the server, or correct the address" in told


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:", ":8000", "http://127.0.0.1:80", "h:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    assert "HOST:PORT" in _refused(lambda: load(address), InvalidPlan)
    assert "HOST:PORT" in _refused(lambda: Foreign.parse(f"name={address},127.0.0.1:1"), InvalidPlan)


def test_a_server_may_be_given_a_name_and_two_ports() -> None:
    assert Foreign.parse("kserve=h:1,h:2") == Foreign(("h:1", "h:2"), "kserve")
    assert Foreign.parse("h:1") == Foreign(("h:1",), "h:1")


def test_a_port_that_speaks_something_else_is_told_with_every_answer() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=_say_hello, args=(listener,), daemon=True).start()
        try:
            told = _refused(lambda: load(f"127.0.0.1:{listener.getsockname()[1]}"), NoServer)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    assert all(protocol in told for protocol in PROTOCOLS)


def _say_hello(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            peer.sendall(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize("transport", [0, 1], ids=["grpc", "rest"])
def test_an_unknown_model_is_told_by_name(fake: Path, transport: int) -> None:
    with running(fake, FakeEngine()) as server:
        told = _refused(lambda: load(addresses(server)[transport], model="other"), UnknownModel)
    assert "'other'" in told


def test_a_server_that_fails_every_call_ends_the_benchmark_with_its_own_words(fake: Path) -> None:
    with running(fake, FakeEngine(breaks=True)) as server:
        told = _refused(lambda: load(*addresses(server), protocols=("v2-grpc",)), CallFailed)
    assert "INTERNAL" in told


def test_a_server_that_fails_later_leaves_what_was_measured(fake: Path) -> None:
    engine = FakeEngine()
    with running(fake, engine) as server:
        run = LoadRun(LoadRequest("m", PLAN, ("v2-rest",), against=(Foreign(addresses(server)),)))

        def tell(line: str) -> None:
            engine.breaks = line.startswith("2/")

        with pytest.raises(NothingMeasured, match="answered nothing"):
            run.measure(tell)
    report = run.report()
    assert (len(report.samples), report.complete) == (2, False)


def test_a_protocol_that_the_port_does_not_speak_is_told_with_those_it_does(fake: Path) -> None:
    with running(fake, FakeEngine()) as server:
        told = _refused(lambda: load(addresses(server)[0], protocols=("tfs-rest",)), InvalidPlan)
    assert "speak v2-grpc, tfs-grpc, not tfs-rest" in told


def test_a_batch_that_the_model_cannot_take_is_refused_before_load(tmp_path: Path) -> None:
    save(echo(), tmp_path, "m")
    with running(tmp_path, repository_model=_fixed_batch()) as server:
        told = _refused(lambda: load(*addresses(server)), InvalidPlan)
    assert "--batch" in told


def _fixed_batch():
    from atalaya_serving.settings import ModelSettings

    return ModelSettings("", Path(), batch_size=2)


class _TellsNothing(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A v2 server as some are: no word of its inputs, and answers with typed contents."""

    def ModelMetadata(self, request, context):
        return service_pb2.ModelMetadataResponse(name=request.name)

    def ModelInfer(self, request, context):
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        values = np.frombuffer(request.raw_input_contents[0], np.float32)
        response.outputs.add(name="y", datatype="FP32", shape=[len(values)]).contents.fp32_contents.extend(values)
        return response


class _Sinks(_TellsNothing):
    """Refuses its fourth to eighth call: those under load, as it happens, and none before or after."""

    def __init__(self) -> None:
        self._calls = 0

    def ModelInfer(self, request, context):
        self._calls += 1
        if 3 < self._calls <= 8:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        return super().ModelInfer(request, context)


@contextmanager
def foreign(servicer: _TellsNothing) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_server_that_does_not_tell_its_inputs_needs_them_told() -> None:
    with foreign(_TellsNothing()) as address:
        told = _refused(lambda: load(address), InvalidPlan)
        report = load(address, inputs=(InputSpec("x", "FP32", (-1, 4)),)).report()
    assert "--input NAME:DATATYPE:DIMS" in told
    assert [(row.cell.protocol, row.errors, row.latency.count) for row in report.rows] == [("v2-grpc", 0, 20)] * 2
    assert report.audits == ()


def test_a_load_that_nothing_answers_is_a_result_while_the_server_lives() -> None:
    plan = LoadPlan((1,), (1,), rounds=2, requests=5)
    with foreign(_Sinks()) as address:
        (row,) = load(address, inputs=(InputSpec("x", "FP32", (-1, 4)),), plan=plan).report().rows
    assert (row.errors, row.latency.count, row.rounds) == (5, 5, 2)
    assert {"5 errors", "overloaded"} <= set(row.marks)


def bench(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "atalaya", "bench", *arguments]


def test_the_command_measures_our_own_server_on_both_protocols(tmp_path: Path) -> None:
    save(echo("UINT8"), tmp_path / "repository", "m")
    flags = f"--model m --repository {tmp_path / 'repository'} --out {tmp_path / 'out'} --rounds 1 --seconds 1 --json"
    command = bench("load", *flags.split(), *["--requests", "20", "--concurrency", "2", "--batch", "1,2"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["cell"]["protocol"] for row in report["rows"]} == set(PROTOCOLS)
    (audit,) = report["audits"]
    assert (audit["sent_requests"], audit["sent_images"]) == (audit["counted_requests"], audit["counted_images"])
    assert {"processor", "processor_flags", "versions", "usable_cores"} <= set(report["about"])
    assert all({"steal", "others", "load_1m"} == set(sample["noise"]) for sample in report["samples"])
    assert report["starts"][0]["precision"] in ("f32", "bf16")
    assert json.loads((tmp_path / "out" / "load.json").read_text()) == report
    assert (tmp_path / "out" / "load-speed.png").is_file()


def test_ctrl_c_leaves_what_was_measured_and_no_server(tmp_path: Path) -> None:
    save(echo("UINT8"), tmp_path / "repository", "m")
    flags = f"--model m --repository {tmp_path / 'repository'} --out {tmp_path / 'out'} --protocol v2-grpc"
    command = bench("load", *flags.split(), *["--rounds", "100", "--seconds", "60", "--requests", "5"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        next(line for line in lines if line.startswith("3/"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    report = json.loads((tmp_path / "out" / "load.json").read_text())
    assert not report["complete"]
    assert len(report["samples"]) >= 3
    assert "Stopped before its end" in (tmp_path / "out" / "load.md").read_text()
    until = time.monotonic() + 20
    while _serves(tmp_path / "repository"):
        assert time.monotonic() < until
        time.sleep(0.1)


def _serves(repository: Path) -> bool:
    """Whether a process names the repository on its command line; the test's own does not."""
    needle = os.fsencode(str(repository))
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if needle in file.read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(("load", "--protocol", "soap"), "'soap' is none of v2-grpc", id="protocol"),
        pytest.param(("load", "--batch", "0"), "not a whole number above 0", id="batch"),
        pytest.param(("load", "--rate", "-3"), "--rate", id="rate"),
        pytest.param(("load", "--seconds", "100000"), "12 h", id="days"),
        pytest.param(("load", "--model", "nothing"), "has no model 'nothing'", id="model"),
        pytest.param(("load", "--version", "new"), "no whole number", id="version"),
        pytest.param(("thesis", "--tiles", "/nowhere.npz"), "/nowhere.npz does not exist", id="tiles"),
        pytest.param((), "load | thesis", id="nothing"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    out = ("--out", str(tmp_path)) if arguments else ()
    done = subprocess.run(bench(*arguments, *out), capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert told in done.stderr
