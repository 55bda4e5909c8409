"""Damaged and strange TensorFlow Serving requests: each is the caller's fault, and the server lives on."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

import builders_tfs as tfs
from atalaya_serving.server import Server
from builders_serving import arithmetic, echo, running, save

CALLERS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}  # fmt: skip
X = np.ones((1, 4), np.float32)
ENOUGH = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for name, model in (("x", echo()), ("text", echo("BYTES")), ("small", echo("INT8")), ("two", arithmetic())):
        save(model, root, name)
    with running(root) as made:
        yield made


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.rest.address}") as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc.address) as made:
        yield made


def good() -> bytes:
    return tfs.predict_request("x", x=X).SerializeToString()


@ENOUGH
@given(at=st.integers(0, 200), value=st.integers(0, 255), keep=st.integers(0, 400))
def test_a_damaged_message_is_the_callers_fault(channel: grpc.Channel, at: int, value: int, keep: int) -> None:
    message = bytearray(good()[:keep])
    if at < len(message):
        message[at] = value
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, told = None, ""
    try:
        predict_pb2.PredictResponse.FromString(call(bytes(message), timeout=10))
    except grpc.RpcError as error:
        code, told = error.code(), error.details()
    is_unreadable = (code, told) == (grpc.StatusCode.INTERNAL, "Exception deserializing request!")
    assert code is None or code in CALLERS_FAULT or is_unreadable, f"{code}: {told}"
    answer = predict_pb2.PredictResponse.FromString(call(good(), timeout=10))
    assert tfs.arrays(answer)["y"].tolist() == X.tolist()


numbers = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=5)
values = st.recursive(
    numbers | st.builds(lambda text: {"b64": text}, numbers),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "a", "b", "z"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@ENOUGH
@given(
    model=st.sampled_from(["x", "text", "small", "two"]),
    method=st.sampled_from(["predict", "classify", "regress"]),
    key=st.sampled_from(["instances", "inputs", "examples", "context"]),
    value=values,
    name=st.none() | numbers,
)
def test_any_json_is_answered_or_refused(
    http: httpx.Client, model: str, method: str, key: str, value: Any, name: Any
) -> None:
    body: dict[str, Any] = {key: value} | ({} if name is None else {"signature_name": name})
    answer = http.post(f"/v1/models/{model}:{method}", content=json.dumps(body))
    assert answer.status_code in (200, 400, 404, 501), answer.text
    assert isinstance(json.loads(answer.content), dict)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("text:predict", b'{"inputs": [["\\ud800", "a", "b", "c"]]}', id="half a surrogate"),
        pytest.param("x:predict", b'{"signature_name": "\\udfff", "inputs": [[1, 2, 3, 4]]}', id="in a name"),
        pytest.param("x:predict", b'{"inputs": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}", id="deep"),
        pytest.param("x:predict", b'{"inputs": ' + b"[" * 100_000, id="too deep to read"),
        pytest.param("x:predict", b'{"inputs": [[' + b"9" * 5000 + b", 1, 2, 3]]}", id="a very long number"),
        pytest.param("x:predict", b"\xff\xfe{}", id="no UTF-8"),
        pytest.param("x/versions/" + "9" * 5000 + ":predict", b'{"inputs": []}', id="a very long version"),
        pytest.param("x/versions/\u0661:predict", b'{"inputs": []}', id="another script's digit"),
    ],
)  # fmt: skip
def test_strange_bodies_and_paths_are_refused(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(f"/v1/models/{path}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert "\n" not in answer.json()["error"]
