"""Wrong requests over both protocols: the status of each, and that the server goes on."""

import json
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2

from conformance.asking import SAME, ended, http_end, in_grpc, one_input
from conformance.differences import expected
from conformance.servers import Peer

TENSOR = np.ones((2, 4), np.float32)


def call_of(model: str = "scale", version: str = "", **tensors: Any) -> Any:
    """A ModelInferRequest; a tensor is (datatype, shape, bytes)."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, (datatype, shape, raw) in (tensors or {"x": ("FP32", [1, 4], bytes(16))}).items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw is not None:
            request.raw_input_contents.append(raw)
    return request


def twice() -> Any:
    request = call_of()
    request.MergeFrom(call_of())
    return request


def unknown_output() -> Any:
    request = call_of()
    request.outputs.add(name="z")
    return request


def both_contents() -> Any:
    request = call_of()
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return request


def few_typed() -> Any:
    request = call_of(x=("FP32", [1, 4], None))
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    return request


def other_typed() -> Any:
    request = call_of(x=("FP32", [1, 4], None))
    request.inputs[0].contents.int_contents.extend([1, 2, 3, 4])
    return request


def elsewhere() -> Any:
    request = call_of(x=("FP32", [1, 4], None))
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 16
    return request


GRPC = {
    "an unknown model": (call_of("nothing"), "NOT_FOUND"),
    "an unknown version": (call_of(version="9"), "NOT_FOUND"),
    "a version that is no number": (call_of(version="new"), "NOT_FOUND"),
    "no input": (service_pb2.ModelInferRequest(model_name="scale"), "INVALID_ARGUMENT"),
    "an input of another name": (call_of(z=("FP32", [1, 4], bytes(16))), "INVALID_ARGUMENT"),
    "an input too many": (call_of(x=("FP32", [1, 4], bytes(16)), z=("FP32", [1, 4], bytes(16))), "INVALID_ARGUMENT"),
    "an input twice": (twice(), "INVALID_ARGUMENT"),
    "another datatype": (call_of(x=("FP64", [1, 4], bytes(32))), "INVALID_ARGUMENT"),
    "an unknown datatype": (call_of(x=("FLOAT", [1, 4], bytes(16))), "INVALID_ARGUMENT"),
    "another shape": (call_of(x=("FP32", [1, 5], bytes(20))), "INVALID_ARGUMENT"),
    "another rank": (call_of(x=("FP32", [4], bytes(16))), "INVALID_ARGUMENT"),
    "a size below zero": (call_of(x=("FP32", [-1, 4], bytes(16))), "INVALID_ARGUMENT"),
    "too few bytes": (call_of(x=("FP32", [1, 4], bytes(12))), "INVALID_ARGUMENT"),
    "too many bytes": (call_of(x=("FP32", [1, 4], bytes(20))), "INVALID_ARGUMENT"),
    "strings for numbers": (call_of(x=("BYTES", [1, 4], b"\1\0\0\0a" * 4)), "INVALID_ARGUMENT"),
    "BYTES that end early": (
        call_of("texts", x=("BYTES", [1, 4], b"\1\0\0\0a" * 3 + b"\\9\0\0\0a")),
        "INVALID_ARGUMENT",
    ),
    "too few BYTES elements": (call_of("texts", x=("BYTES", [1, 4], b"\1\0\0\0a" * 3)), "INVALID_ARGUMENT"),
    "raw and typed contents at once": (both_contents(), "INVALID_ARGUMENT"),
    "too few typed values": (few_typed(), "INVALID_ARGUMENT"),
    "typed values of another type": (other_typed(), "INVALID_ARGUMENT"),
    "an unknown output": (unknown_output(), "INVALID_ARGUMENT"),
    "an input in shared memory that nobody registered": (elsewhere(), "INVALID_ARGUMENT"),
    "values on which the model itself fails": (call_of("fours", x=("FP32", [3], bytes(12))), "INTERNAL"),
}


@pytest.mark.parametrize("asked", GRPC)
def test_a_wrong_grpc_call_is_refused_with_its_status(server: Peer, stub: Any, asked: str) -> None:
    request, usual = GRPC[asked]
    assert ended(lambda: stub.ModelInfer(request, timeout=30)) == expected(server.kind, f"{asked}, gRPC", usual)
    assert ended(lambda: stub.ModelInfer(call_of(), timeout=30)) == SAME


def test_a_message_that_is_no_protobuf_is_refused(server: Peer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        found = ended(lambda: call(b"\xff\xff", timeout=30))
    assert found == expected(server.kind, "a message that is no protobuf, gRPC", "INTERNAL")


def test_a_method_that_nobody_knows_is_unimplemented(server: Peer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/Nothing")
        assert ended(lambda: call(b"", timeout=30)) == "UNIMPLEMENTED"


def path(model: str = "scale", version: str = "") -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"


HTTP: dict[str, tuple[str, Any, str]] = {
    "an unknown model": (path("nothing"), one_input(), "404"),
    "an unknown version": (path(version="9"), one_input(), "404"),
    "no input": (path(), {"inputs": []}, "400"),
    "no `inputs`": (path(), {}, "400"),
    "no JSON": (path(), b"{", "400"),
    "JSON that is no object": (path(), [], "400"),
    "an empty body": (path(), b"", "400"),
    "an input of another name": (path(), one_input(name="z"), "400"),
    "an input without a name": (path(), one_input(name=None), "400"),
    "an input without a datatype": (path(), one_input(datatype=None), "400"),
    "an input without a shape": (path(), one_input(shape=None), "400"),
    "an input without data": (path(), one_input(data=None), "400"),
    "another datatype": (path(), one_input(datatype="FP64"), "400"),
    "an unknown datatype": (path(), one_input(datatype="FLOAT"), "400"),
    "another shape": (path(), one_input(shape=[1, 5], data=[1] * 5), "400"),
    "another rank": (path(), one_input(shape=[4]), "400"),
    "too few values": (path(), one_input(data=[1, 2]), "400"),
    "too many values": (path(), one_input(data=[1] * 5), "400"),
    "strings for numbers": (path(), one_input(data=["a"] * 4), "400"),
    "numbers as strings": (path(), one_input(data=["1"] * 4), "400"),
    "ragged lists": (path(), one_input(data=[[1, 2], 3, 4]), "400"),
    "an unknown output": (path(), one_input([{"name": "z"}]), "400"),
    "values on which the model itself fails": (
        path("fours"), {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]}]}, "500",
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", HTTP)
def test_a_wrong_http_call_is_refused_with_its_status_and_says_why(
    server: Peer, plain: httpx.Client, asked: str
) -> None:
    where, body, usual = HTTP[asked]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = plain.post(where, content=content, headers={"Content-Type": "application/json"})
    assert http_end(answer) == expected(server.kind, f"{asked}, HTTP", usual)
    # On a connection of its own: MLServer closes one on which it failed.
    assert http_end(httpx.post(server.url + path(), json=one_input(), trust_env=False)) == "200"


def test_the_wrong_method_is_refused(server: Peer, plain: httpx.Client) -> None:
    assert http_end(plain.get(path())) == expected(server.kind, "GET where POST is due", "405")


def test_a_deadline_in_the_request_that_has_passed_is_told(
    server: Peer, over_grpc: triton_grpc.InferenceServerClient
) -> None:
    found = ended(lambda: over_grpc.infer("scale", [in_grpc("x", TENSOR)], timeout=1))
    assert found == expected(server.kind, "the request parameter `timeout`, passed", "DEADLINE_EXCEEDED")
