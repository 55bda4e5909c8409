"""What callers of REST may hold and for how long, and that the answer is JSON whatever they send."""

import gzip
import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atalaya_serving.server import Server
from builders_serving import FakeEngine, fake_version, running

V2, TFS = "/v2/models/m/infer", "/v1/models/m:predict"
BOTH = pytest.mark.parametrize("path", [V2, TFS], ids=["KServe v2", "TensorFlow Serving"])


def body(path: str, value: float = 1.0) -> bytes:
    one = [value] * 4
    if path == TFS:
        return json.dumps({"instances": [one]}).encode()
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": one}]}).encode()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    fake_version(tmp_path, "m", 1)
    return tmp_path


@pytest.fixture
def held() -> FakeEngine:
    """An engine that computes one call at a time, and only once its gate is opened."""
    engine = FakeEngine(slot_count=1)
    engine.gate.clear()
    return engine


@contextmanager
def client_of(server: Server) -> Iterator[httpx.Client]:
    assert server.rest is not None
    with httpx.Client(base_url=f"http://{server.rest.address}", trust_env=False, timeout=30) as made:
        yield made


@contextmanager
def connected(server: Server, path: str, sent: bytes, length: int | None = None) -> Iterator[socket.socket]:
    """A POST written by hand: `sent` of a body that is said to have `length` bytes."""
    assert server.rest is not None
    host, _, port = server.rest.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent) if length is None else length}\r\n\r\n"
        line.sendall(head.encode() + sent)
        yield line


def all_of(line: socket.socket) -> str:
    """Everything up to the end of the connection."""
    return b"".join(iter(lambda: line.recv(4096), b"")).decode()


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def give_heads(server: Server, seconds: float) -> None:
    """The time that the heads have which begin from here on; that of bodies stays."""
    assert server.rest is not None
    server.rest._server.config.http.head_seconds = seconds  # type: ignore[union-attr]


def is_being_read(server: Server) -> bool:
    """Whether one body is on its way."""
    assert server.rest is not None
    return server.rest._guard._under_way == 1


def counted(http: httpx.Client, protocol: str) -> dict[str, float]:
    """Refused calls by code."""
    families = {one.name: one for one in text_string_to_metric_families(http.get("/metrics").text)}
    wanted = {"model": "", "protocol": protocol}
    return {
        sample.labels["code"]: sample.value
        for sample in families["atalaya_requests"].samples
        if sample.name == "atalaya_requests_total" and wanted.items() <= sample.labels.items()
    }


@BOTH
def test_the_call_of_a_caller_that_hung_up_is_not_computed(models: Path, held: FakeEngine, path: str) -> None:
    with running(models, held) as server, client_of(server) as http, ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, path, content=body(path, 1))
        wait_until(lambda: held.computed == [1])
        executor = server.repository.resolve("m", "").executor
        with connected(server, path, body(path, 2)):
            wait_until(lambda: executor.depth == 1)
        (waiting,) = executor._queue
        wait_until(lambda: waiting.is_cancelled is not None and waiting.is_cancelled())
        held.gate.set()
        assert first.result().status_code == 200
        assert http.post(path, content=body(path, 3)).status_code == 200
    assert held.computed == [1, 3]


@BOTH
def test_a_body_that_does_not_come_is_answered_408_and_its_connection_closed(models: Path, path: str) -> None:
    with running(models, FakeEngine(), rest_body_seconds=0.2) as server, client_of(server) as http:
        give_heads(server, 30)
        with connected(server, path, b"{", length=100) as line:
            answer = all_of(line)
            assert answer.startswith("HTTP/1.1 408")
            assert "--rest_body_seconds" in answer
        assert counted(http, "tfs-rest" if path == TFS else "rest") == {"DEADLINE_EXCEEDED": 1}


def test_a_large_body_has_more_time_than_a_small_one(models: Path) -> None:
    """Its first part pays for the pause before its second."""
    sent = body(V2).ljust(512 << 10)
    with running(models, FakeEngine(), rest_body_seconds=0.2) as server:
        give_heads(server, 30)
        with connected(server, V2, sent[:-1], length=len(sent)) as line:
            time.sleep(0.6)
            line.sendall(sent[-1:])
            assert line.recv(4096).startswith(b"HTTP/1.1 200")


@contextmanager
def dialled(server: Server) -> Iterator[socket.socket]:
    """A connection on which nothing was said."""
    assert server.rest is not None
    host, _, port = server.rest.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        yield line


def test_a_head_that_does_not_come_is_answered_408_and_its_connection_closed(models: Path) -> None:
    with running(models, FakeEngine(), rest_body_seconds=4) as server, dialled(server) as line:
        line.sendall(b"POST /v2 HTTP/1.1\r\nHost: x\r\n")
        while not select.select([line], [], [], 0.1)[0]:  # every part in time, and the whole not
            line.sendall(b"A: 1\r\n")
        answer = all_of(line)
        assert answer.startswith("HTTP/1.1 408")
        assert "--rest_body_seconds" in json.loads(answer.partition("\r\n\r\n")[2])["error"]


def test_a_connection_on_which_nothing_is_said_is_closed(models: Path) -> None:
    with running(models, FakeEngine(), rest_body_seconds=0.2) as server, dialled(server) as line:
        assert all_of(line) == ""


def test_a_head_without_end_is_refused_before_it_fills_the_memory(models: Path) -> None:
    with running(models, FakeEngine()) as server, dialled(server) as line:
        line.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (70 << 10))
        assert all_of(line).startswith("HTTP/1.1 431")


def test_the_next_request_of_a_connection_has_its_own_time(models: Path) -> None:
    with running(models, FakeEngine(), rest_body_seconds=4) as server, dialled(server) as line:
        is_over = time.monotonic() + 4  # the time of the first
        is_last = False
        while not is_last:
            is_last = time.monotonic() > is_over
            line.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.2)
        line.sendall(b"GET /v2")
        assert all_of(line).startswith("HTTP/1.1 408")


def test_an_answer_on_its_way_is_not_broken_off_by_the_head_that_follows(models: Path, held: FakeEngine) -> None:
    with running(models, held) as server, connected(server, V2, body(V2)) as line:
        wait_until(lambda: len(held.computed) == 1)
        give_heads(server, 0.2)
        line.sendall(b"GET /v2")
        time.sleep(0.6)
        held.gate.set()
        told = all_of(line)
        assert told.startswith("HTTP/1.1 200")
        assert "HTTP/1.1 408" in told


@BOTH
def test_beyond_the_most_requests_a_call_gets_429_and_health_still_answers(
    models: Path, held: FakeEngine, path: str
) -> None:
    with running(models, held, rest_max_requests=3) as server, client_of(server) as http, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(http.post, path, content=body(path)) for _ in range(3)]
        executor = server.repository.resolve("m", "").executor
        wait_until(lambda: executor.depth + executor.running == 3)
        refused = http.post(path, content=body(path))
        assert refused.status_code == 429
        assert "--rest_max_requests" in refused.json()["error"]
        assert http.get("/v2/health/ready").status_code == 200
        assert counted(http, "tfs-rest" if path == TFS else "rest") == {"RESOURCE_EXHAUSTED": 1}
        held.gate.set()
        assert [call.result().status_code for call in calls] == [200] * 3
        assert http.post(path, content=body(path)).status_code == 200


@BOTH
def test_bodies_together_may_have_the_memory_of_eight_of_the_largest(models: Path, held: FakeEngine, path: str) -> None:
    largest = 1 << 16
    with running(models, held, max_message_bytes=largest) as server, client_of(server) as http:
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(http.post, path, content=body(path).ljust(largest)) for _ in range(8)]
            executor = server.repository.resolve("m", "").executor
            wait_until(lambda: executor.depth + executor.running == 8)
            refused = http.post(path, content=body(path))
            assert refused.status_code == 429
            assert "524288 bytes that are held" in refused.json()["error"]
            held.gate.set()
            assert [call.result().status_code for call in calls] == [200] * 8
        assert http.post(path, content=body(path)).status_code == 200


def test_many_waiting_tensorflow_calls_do_not_keep_metrics_waiting(models: Path, held: FakeEngine) -> None:
    """More of them than the framework has threads."""
    with running(models, held) as server, client_of(server) as http, ThreadPoolExecutor(50) as pool:
        assert server.rest is not None
        url = f"http://{server.rest.address}{TFS}"
        calls = [pool.submit(httpx.post, url, content=body(TFS), trust_env=False, timeout=30) for _ in range(50)]
        executor = server.repository.resolve("m", "").executor
        wait_until(lambda: executor.depth == 49)
        assert http.get("/metrics", timeout=10).status_code == 200
        held.gate.set()
        assert {call.result().status_code for call in calls} == {200}


def test_a_body_that_is_still_on_its_way_does_not_hold_the_end_of_the_server(models: Path) -> None:
    with running(models, FakeEngine(), drain_seconds=60, rest_body_seconds=60) as server:
        with connected(server, V2, b"{", length=100) as line:
            wait_until(lambda: is_being_read(server))
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            answer = all_of(line)
            assert answer.startswith("HTTP/1.1 503")
            assert "shutting down" in answer
        stopping.join(20)
        assert not stopping.is_alive()


def test_a_caller_that_leaves_within_its_body_is_no_defect(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        with connected(server, V2, b"{", length=100):
            wait_until(lambda: is_being_read(server))
        wait_until(lambda: counted(http, "rest") == {"CANCELLED": 1})
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_defect_is_one_line_of_json_and_its_traceback_stays_in_the_log(
    models: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        monkeypatch.setattr(server.dataplane, "infer", lambda *_: 1 / 0)
        answer = http.post(V2, content=body(V2))
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed on this request; its log says why."}
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert told.exc_info is not None
    assert told.exc_info[0] is ZeroDivisionError


def test_an_unknown_path_or_method_says_where_the_apis_are(models: Path) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        lost, wrong = http.get("/predict"), http.delete("/v2")
    assert (lost.status_code, wrong.status_code) == (404, 405)
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert "KServe v2 is below /v2, TensorFlow Serving's API below /v1" in lost.json()["error"]


ONE = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
ODD = [
    pytest.param(V2, json.dumps({"inputs": [ONE | {"name": "\ud800"}]}).encode(), {}, id="half a surrogate pair"),
    pytest.param(V2, b'{"inputs": [], "id": "\xed\xa0\x80"}', {}, id="half a pair as bytes"),
    pytest.param(V2, json.dumps({"inputs": [ONE | {"datatype": "\udfff"}]}).encode(), {}, id="half a pair in a type"),
    pytest.param(V2, b'{"inputs": [], "parameters": {"timeout": 1e400}}', {}, id="no inputs, endless timeout"),
    pytest.param(V2, body(V2)[:-1] + b', "parameters": {"timeout": 1e400}}', {}, id="endless timeout"),
    pytest.param(V2, body(V2)[:-1] + b', "parameters": {"timeout": 1' + b"0" * 400 + b"}}", {}, id="huge timeout"),
    pytest.param(V2, body(V2)[:-1] + b', "parameters": {"timeout": "soon"}}', {}, id="timeout is a text"),
    pytest.param(V2, body(V2)[:-1] + b', "parameters": {"timeout": NaN}}', {}, id="timeout is no number"),
    pytest.param(V2, body(V2), {"Inference-Header-Content-Length": "9" * 5000}, id="header of 5000 digits"),
    pytest.param(V2, body(V2), {"Inference-Header-Content-Length": "-1"}, id="negative header"),
    pytest.param(V2, json.dumps({"inputs": [ONE | {"shape": [10**30, 4]}]}).encode(), {}, id="huge shape"),
    pytest.param(V2, b"[" * 100_000, {}, id="deep"),
    pytest.param(V2, b'{"id": ' + b"9" * 5000 + b"}", {}, id="number of 5000 digits"),
    pytest.param(V2, gzip.compress(body(V2)) + b"rubbish", {"Content-Encoding": "gzip"}, id="rubbish after gzip"),
    pytest.param(TFS, b'{"instances": ["\xed\xa0\x80"]}', {}, id="TFS: half a pair as bytes"),
    pytest.param(TFS, json.dumps({"instances": ["\ud800"]}).encode(), {}, id="TFS: half a pair"),
    pytest.param(TFS, b'{"instances": [[1e400, 1, 1, ' + b"9" * 5000 + b"]]}", {}, id="TFS: huge numbers"),
    pytest.param(TFS, b'{"signature_name": "\\ud800", "instances": [1]}', {}, id="TFS: odd signature"),
    pytest.param("/v1/models/m/versions/" + "9" * 5000 + ":predict", body(TFS), {}, id="TFS: version of 5000 digits"),
    pytest.param("/v2/repository/index", b'{"ready": "\\ud800"}', {}, id="index: half a pair"),
]


@pytest.mark.parametrize(("path", "content", "headers"), ODD)
def test_what_no_client_sends_is_refused_in_json(
    models: Path, caplog: pytest.LogCaptureFixture, path: str, content: bytes, headers: dict[str, str]
) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        answer = http.post(path, content=content, headers=headers)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]
        assert "\n" not in answer.json()["error"]
        assert http.post(V2, content=body(V2)).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("deflate;q=0", None),
        ("gzip, deflate", None),
        ("identity", None),
    ],
)
def test_an_answer_is_compressed_only_for_who_wants_it(models: Path, accepted: str, encoding: str | None) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        answer = http.post(V2, content=body(V2), headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == encoding
    assert answer.json()["outputs"][0]["data"] == [1, 1, 1, 1]


def test_a_gzip_body_may_have_several_members(models: Path) -> None:
    whole = body(V2)
    members = b"".join(gzip.compress(part) for part in (whole[:10], b"", whole[10:]))
    with running(models, FakeEngine(), max_message_bytes=2000) as server, client_of(server) as http:
        answer = http.post(V2, content=members, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 200
        bomb = gzip.compress(bytes(1500)) * 2
        assert http.post(V2, content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413


@pytest.mark.parametrize(
    ("path", "content"),
    [
        pytest.param("/v1/models/m:predict", b"{", id="no JSON"),
        pytest.param("/v1/models/m:predict", b'{"instances": [[1, 2]]}', id="wrong shape"),
        pytest.param("/v1/models/m:classify", b"{}", id="no examples"),
        pytest.param("/v1/models/m:guess", b"{}", id="no such method"),
        pytest.param("/v1/models/nothing:predict", b'{"instances": [[1, 2]]}', id="no such model"),
    ],
)
def test_every_refused_tensorflow_call_is_counted_once(models: Path, path: str, content: bytes) -> None:
    with running(models, FakeEngine()) as server, client_of(server) as http:
        answer: Any = http.post(path, content=content)
        assert answer.status_code in (400, 404)
        families = {one.name: one for one in text_string_to_metric_families(http.get("/metrics").text)}
        told = [
            (sample.labels["code"], sample.value)
            for sample in families["atalaya_requests"].samples
            if sample.labels.get("protocol") == "tfs-rest"
        ]
        assert told == [("NOT_FOUND" if answer.status_code == 404 else "INVALID_ARGUMENT", 1)]
