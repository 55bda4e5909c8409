"""Hundreds of damaged messages: each is answered with an error of the caller's, and the server goes on."""

import random
from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from atalaya_serving.server import Server
from builders_serving import FakeEngine, fake_version, running

METHODS = ["ModelInfer", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics", "RepositoryIndex"]
CALLERS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["short way", "ordinary way"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    fake_version(root, "m", 2)
    with running(root, FakeEngine(), fast=request.param) as made:
        yield made


def good(pad: int = 0) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="m", id="7" + "x" * pad)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(np.ones(4, np.float32).tobytes())
    return bytes(request.SerializeToString())


def damaged(message: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    made = bytearray(message)
    if kind == 1:
        del made[rng.randrange(len(made)) :]
    for _ in range(rng.randrange(1, 8)):
        if made:
            made[rng.randrange(len(made))] = rng.randrange(256)
    if kind == 3:
        made *= rng.randrange(1, 4)
    return bytes(made)


def is_fine(channel: grpc.Channel) -> bool:
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    answer = service_pb2.ModelInferResponse.FromString(infer(good(), timeout=10))
    return answer.raw_output_contents[0] == np.full(4, 2, np.float32).tobytes()


@pytest.mark.parametrize("pad", [0, 300_000], ids=["small", "cut by hand"])
def test_damaged_protobufs_never_hurt_the_server(server: Server, pad: int) -> None:
    assert server.grpc is not None
    rng, whole, codes = random.Random(20100112), good(pad), set()
    with grpc.insecure_channel(server.grpc.address) as channel:
        for number in range(300 if pad == 0 else 60):
            method = METHODS[0] if pad or number % 2 == 0 else rng.choice(METHODS[1:])
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            try:
                call(damaged(whole, rng), timeout=10)
            except grpc.RpcError as error:
                codes.add((method, error.code()))
        assert is_fine(channel)
    infer_codes = {code for method, code in codes if method == "ModelInfer"}
    assert grpc.StatusCode.INVALID_ARGUMENT in infer_codes or grpc.StatusCode.INTERNAL in infer_codes
    # grpcio itself answers INTERNAL where the ordinary way's deserialiser fails.
    assert infer_codes <= CALLERS_FAULT | {grpc.StatusCode.INTERNAL}
    assert grpc.StatusCode.UNKNOWN not in {code for _, code in codes}


def test_damaged_requests_get_invalid_argument_on_the_short_way(server: Server) -> None:
    assert server.grpc is not None
    if server.grpc._start_fast is None:
        return
    with grpc.insecure_channel(server.grpc.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(good()[:-3], timeout=10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "cut short" in str(caught.value.details())


def test_damaged_streams_end_with_an_error_and_do_not_hurt_the_server(server: Server) -> None:
    assert server.grpc is not None
    rng, codes = random.Random(7), set()
    with grpc.insecure_channel(server.grpc.address) as channel:
        for _ in range(30):
            call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            try:
                list(call(iter([good(), damaged(good(), rng)]), timeout=10))
            except grpc.RpcError as error:
                codes.add(error.code())
        assert codes <= CALLERS_FAULT | {grpc.StatusCode.INTERNAL}
        assert is_fine(channel)


def test_calls_that_are_dropped_midway_do_not_hurt_the_server(server: Server) -> None:
    assert server.grpc is not None
    for _ in range(20):
        with grpc.insecure_channel(server.grpc.address) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            calls = [infer.future(good()) for _ in range(10)]
            for call in calls[::2]:
                call.cancel()
    with grpc.insecure_channel(server.grpc.address) as channel:
        assert is_fine(channel)


def test_damaged_http_bodies_get_a_client_error(server: Server) -> None:
    assert server.rest is not None
    rng = random.Random(12)
    whole = (
        b'{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    with httpx.Client(base_url=f"http://{server.rest.address}", trust_env=False) as http:
        for number in range(300):
            headers = {} if number % 3 else {"Inference-Header-Content-Length": str(rng.randrange(-5, 400))}
            if number % 7 == 0:
                headers["Content-Encoding"] = rng.choice(["gzip", "deflate", "zstd"])
            answer = http.post("/v2/models/m/infer", content=damaged(whole + bytes(16), rng), headers=headers)
            assert answer.status_code in (200, 400, 404, 501), answer.text
        deep = b"[" * 100_000
        assert http.post("/v2/models/m/infer", content=deep).status_code == 400
        assert http.post("/v2/repository/index", content=deep).status_code == 400
        huge = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1e999],"data":[1]}]}'
        assert http.post("/v2/models/m/infer", content=huge).status_code == 400
        good_body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
        assert http.post("/v2/models/m/infer", json=good_body).json()["outputs"][0]["data"] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("version", "shape", "raw", "code"),
    [
        pytest.param("9" * 5000, [1, 4], bytes(16), grpc.StatusCode.NOT_FOUND, id="version too long for a number"),
        pytest.param("", [0, 2**62, 2**62], b"", grpc.StatusCode.INVALID_ARGUMENT, id="empty and beyond all sizes"),
        pytest.param("", [1] * 65, bytes(4), grpc.StatusCode.INVALID_ARGUMENT, id="more dimensions than a tensor has"),
        pytest.param("", [1] * 9000, bytes(4), grpc.StatusCode.INVALID_ARGUMENT, id="a message that names all of them"),
    ],
)
def test_an_impossible_request_is_refused_and_the_server_goes_on(
    server: Server, version: str, shape: list[int], raw: bytes, code: grpc.StatusCode
) -> None:
    assert server.grpc is not None
    request = service_pb2.ModelInferRequest(model_name="m", model_version=version)
    request.inputs.add(name="x", datatype="FP32", shape=shape)
    request.raw_input_contents.append(raw)
    with grpc.insecure_channel(server.grpc.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=10)
        assert caught.value.code() == code
        assert is_fine(channel)


def test_a_request_that_breaks_the_server_inside_is_answered_and_the_others_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever escapes on the way in must not end the thread that reads all calls."""
    assert server.grpc is not None

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with grpc.insecure_channel(server.grpc.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with monkeypatch.context() as patch:
            patch.setattr(server.dataplane, "infer", broken)
            patch.setattr(server.dataplane, "infer_later", broken)
            with pytest.raises(grpc.RpcError) as caught:
                call(good(), timeout=10)
        assert caught.value.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
        assert is_fine(channel)
