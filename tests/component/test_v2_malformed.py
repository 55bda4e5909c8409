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
