"""Every datatype, emptiness, size and way of travelling: what goes in comes out."""

from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2

from conformance.asking import SAME, ended, has, http_end, in_grpc, in_http, one_input, sample, whole_request
from conformance.differences import expected
from conformance.models import NUMERIC, WHOLE
from conformance.servers import Peer

TYPED = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
TEXTS = np.array([["damaged", "not öffen", "", "x"], ["a" * 300, "1", "2", "3"]], dtype=object)
NO_TEXTS = np.array([[b"\xff\x00", b"", b"\x80" * 9, b"a"]], dtype=object)
LARGE_ROWS = 2 << 20  # of four float32: 32 MiB
WAYS = pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
BYTES_OVER_HTTP = "tensors as bytes over HTTP (`binary_data`)"


def large(rows: int) -> Any:
    return np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) % 1000


@pytest.mark.parametrize("rows", [3, 0], ids=["a batch", "empty"])
@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_datatype_comes_back_over_grpc(
    server: Peer, over_grpc: triton_grpc.InferenceServerClient, datatype: str, rows: int
) -> None:
    model, tensors = whole_request(datatype, rows)
    given = [in_grpc(name, tensor) for name, tensor in tensors.items()]
    outputs = [triton_grpc.InferRequestedOutput(f"out_{datatype}")]
    found = ended(
        lambda: over_grpc.infer(model, given, outputs=outputs), has(f"out_{datatype}", sample(datatype, rows))
    )
    asked = "BF16 over gRPC" if datatype == "BF16" else "numbers over gRPC" if rows else "empty tensors over gRPC"
    assert found == expected(server.kind, asked, SAME)


@pytest.mark.parametrize("rows", [3, 0], ids=["a batch", "empty"])
@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_datatype_comes_back_over_http_as_bytes(
    server: Peer, over_http: triton_http.InferenceServerClient, datatype: str, rows: int
) -> None:
    model, tensors = whole_request(datatype, rows)
    given = [in_http(name, tensor) for name, tensor in tensors.items()]
    outputs = [triton_http.InferRequestedOutput(f"out_{datatype}", binary_data=True)]
    found = ended(
        lambda: over_http.infer(model, given, outputs=outputs), has(f"out_{datatype}", sample(datatype, rows))
    )
    assert found == expected(server.kind, "BF16 as bytes over HTTP" if datatype == "BF16" else BYTES_OVER_HTTP, SAME)


@pytest.mark.parametrize(
    ("binary_in", "binary_out"), [(False, False), (True, False), (False, True)], ids=["JSON", "JSON out", "JSON in"]
)
@pytest.mark.parametrize("datatype", [*WHOLE, "FP16"])
def test_every_datatype_but_bf16_comes_back_as_json(
    server: Peer, over_http: triton_http.InferenceServerClient, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    model, tensors = whole_request(datatype)
    given = [in_http(name, tensor, binary=binary_in) for name, tensor in tensors.items()]
    outputs = [triton_http.InferRequestedOutput(f"out_{datatype}", binary_data=binary_out)]
    found = ended(lambda: over_http.infer(model, given, outputs=outputs), has(f"out_{datatype}", sample(datatype)))
    way = BYTES_OVER_HTTP if binary_in else "numbers in JSON"
    halves = "FP16 as JSON out" if binary_in else "FP16 as JSON in" if binary_out else "FP16 as JSON both ways"
    asked = halves if datatype == "FP16" else way
    assert found == expected(server.kind, asked, SAME)


def test_every_datatype_that_has_typed_contents_is_read_from_them(server: Peer, stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="every")
    tensors = whole_request("FP32", 1)[1]
    for name, tensor in tensors.items():
        one = request.inputs.add(name=name, datatype=name[3:], shape=tensor.shape)
        getattr(one.contents, TYPED[name[3:]]).extend(tensor.ravel().tolist())
    answer = stub.ModelInfer(request, timeout=30)
    found = "raw" if answer.raw_output_contents else "typed"
    assert found == expected(server.kind, "answers to typed contents", "raw")
    for number, output in enumerate(answer.outputs):
        wanted = tensors[output.name.replace("out_", "in_")]
        if found == "raw":
            assert answer.raw_output_contents[number] == wanted.tobytes(), output.name
        else:
            assert list(getattr(output.contents, TYPED[output.datatype])) == wanted.ravel().tolist(), output.name


@WAYS
@pytest.mark.parametrize("tensor", [TEXTS, TEXTS[:0]], ids=["some", "none"])
def test_texts_come_back_over_http(
    server: Peer, over_http: triton_http.InferenceServerClient, tensor: Any, binary: bool
) -> None:
    outputs = [triton_http.InferRequestedOutput("x", binary_data=binary)]
    found = ended(
        lambda: over_http.infer("texts", [in_http("x", tensor, "BYTES", binary=binary)], outputs=outputs),
        has("x", tensor),
    )
    assert found == expected(server.kind, BYTES_OVER_HTTP if binary else "texts in JSON", SAME)


@pytest.mark.parametrize("tensor", [TEXTS, NO_TEXTS, TEXTS[:0]], ids=["texts", "no texts", "none"])
def test_bytes_come_back_over_grpc(server: Peer, over_grpc: triton_grpc.InferenceServerClient, tensor: Any) -> None:
    found = ended(lambda: over_grpc.infer("texts", [in_grpc("x", tensor, "BYTES")]), has("x", tensor))
    assert found == expected(server.kind, "BYTES over gRPC" if len(tensor) else "empty BYTES over gRPC", SAME)


def test_bytes_are_read_from_typed_contents(server: Peer, stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="texts")
    request.inputs.add(name="x", datatype="BYTES", shape=[1, 4]).contents.bytes_contents.extend([b"a", b"", b"c", b"d"])
    answer = stub.ModelInfer(request, timeout=30)
    raw = b"".join(len(item).to_bytes(4, "little") + item for item in (b"a", b"", b"c", b"d"))
    typed = list(answer.outputs[0].contents.bytes_contents)
    assert answer.raw_output_contents[:] == [raw] or typed == [b"a", b"", b"c", b"d"]


def test_a_large_tensor_comes_back_over_grpc(server: Peer, stub: Any) -> None:
    tensor = large(LARGE_ROWS)
    request = service_pb2.ModelInferRequest(model_name="scale", raw_input_contents=[tensor.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=tensor.shape)
    answer = stub.ModelInfer(request, timeout=120)
    assert answer.raw_output_contents[0] == (tensor * 3).tobytes()


def test_a_large_tensor_comes_back_over_http_as_bytes(
    server: Peer, over_http: triton_http.InferenceServerClient
) -> None:
    tensor = large(LARGE_ROWS)
    found = ended(lambda: over_http.infer("scale", [in_http("x", tensor)]), has("y", tensor * 3))
    assert found == expected(server.kind, BYTES_OVER_HTTP, SAME)


def test_many_numbers_come_back_as_json(server: Peer, over_http: triton_http.InferenceServerClient) -> None:
    tensor = large(50_000)
    outputs = [triton_http.InferRequestedOutput("y", binary_data=False)]
    given = [in_http("x", tensor, binary=False)]
    assert ended(lambda: over_http.infer("scale", given, outputs=outputs), has("y", tensor * 3)) == SAME


@pytest.mark.parametrize(
    ("asked", "data"),
    [("a flat list in JSON", [1, 2, 3, 4, 5, 6, 7, 8]), ("nested lists in JSON", [[1, 2, 3, 4], [5, 6, 7, 8]])],
)
def test_json_data_may_be_flat_or_nested(server: Peer, plain: httpx.Client, asked: str, data: Any) -> None:
    answer = plain.post("/v2/models/scale/infer", json=one_input(shape=[2, 4], data=data))
    assert http_end(answer) == expected(server.kind, asked, "200")
    if answer.status_code == 200:
        (told,) = answer.json()["outputs"]
        assert (told["name"], told["datatype"], told["shape"]) == ("y", "FP32", [2, 4])
        assert np.ravel(told["data"]).tolist() == [3, 6, 9, 12, 15, 18, 21, 24]


def test_infinity_does_not_travel_in_json(server: Peer, plain: httpx.Client) -> None:
    """Three times 3e38 is beyond float32."""
    body = one_input([{"name": "y", "parameters": {"binary_data": False}}], data=[3e38, 1, 2, 3])
    answer = plain.post("/v2/models/scale/infer", json=body)
    found = http_end(answer)
    if found == "200":
        found = "200, null" if b"null" in answer.content else "200, no JSON" if b"Inf" in answer.content else "200"
    assert found == expected(server.kind, "infinity, to be answered in JSON", "500")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_may_be_compressed_both_ways(
    server: Peer, over_http: triton_http.InferenceServerClient, algorithm: str
) -> None:
    tensor = sample("FP32")
    outputs = [triton_http.InferRequestedOutput("y", binary_data=False)]
    found = ended(
        lambda: over_http.infer(
            "scale", [in_http("x", tensor, binary=False)], outputs=outputs,
            request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
        ),
        has("y", tensor * 3),
    )  # fmt: skip
    assert found == expected(server.kind, f"bodies in {algorithm}", SAME)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_grpc_messages_may_be_compressed(
    server: Peer, over_grpc: triton_grpc.InferenceServerClient, algorithm: str
) -> None:
    tensor = sample("FP32")
    given = [in_grpc("x", tensor)]
    found = ended(lambda: over_grpc.infer("scale", given, compression_algorithm=algorithm), has("y", tensor * 3))
    assert found == SAME
