"""Unmodified tritonclients before TensorFlow Serving's API get, bit for bit, what that API gives."""

import asyncio
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import builders_tfs as tfs
from atalaya_serving.bridge.server import Bridge
from builders_bridge import Upstream, bridging, refusal, upstream
from builders_serving import ELEMENTS, save, scale

CODES = grpc.StatusCode
NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32,
    "FP64": np.float64, "BF16": ml_dtypes.bfloat16, "BYTES": np.object_,
}  # fmt: skip
X = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["short way", "ordinary way"])
def bridge(request: pytest.FixtureRequest, behind: Upstream) -> Iterator[Bridge]:
    with bridging(behind.address, "v2", fast=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def client(bridge: Bridge) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(bridge.grpc.address) as made:
        yield made


@pytest.fixture(scope="module")
def http(bridge: Bridge) -> Iterator[triton_http.InferenceServerClient]:
    with triton_http.InferenceServerClient(bridge.rest.address) as made:
        yield made


def values(datatype: str, rows: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(rows)
    if datatype == "BYTES":
        made = np.empty(rows * 4, object)
        made[:] = [rng.bytes(int(length)) for length in rng.integers(0, 9, rows * 4)]
        return made.reshape(rows, 4)
    if datatype == "BOOL":
        return rng.integers(0, 2, (rows, 4)).astype(bool)
    return rng.integers(0, 100, (rows, 4)).astype(NUMPY[datatype])


def given(kit: Any, datatype: str, data: np.ndarray[Any, Any], name: str = "x") -> Any:
    made = kit.InferInput(name, list(data.shape), datatype)
    made.set_data_from_numpy(data)
    return made


@pytest.mark.parametrize("rows", [1, 3, 0], ids=["one row", "a batch", "empty"])
@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_dtype_comes_back_bit_for_bit_over_grpc(
    client: triton.InferenceServerClient, datatype: str, rows: int
) -> None:
    data = values(datatype, rows)
    answer = client.infer(datatype, [given(triton, datatype, data)])
    (output,) = answer.get_response().outputs
    assert (output.datatype, list(output.shape)) == (datatype, [rows, 4])
    assert answer.as_numpy(output.name).tolist() == data.tolist()


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_dtype_comes_back_bit_for_bit_over_rest(http: triton_http.InferenceServerClient, datatype: str) -> None:
    data = values(datatype, 3)
    answer = http.infer(datatype, [given(triton_http, datatype, data)])
    (output,) = answer.get_response()["outputs"]
    assert answer.as_numpy(output["name"]).tolist() == data.tolist()


@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "INT64", "FP16"])
def test_outputs_equal_those_of_the_upstreams_own_protocol(
    client: triton.InferenceServerClient, behind: Upstream, datatype: str
) -> None:
    data = values(datatype, 5)
    with grpc.insecure_channel(behind.address) as channel:
        own = tfs.Stubs(channel).outputs(datatype, x=data)["y"]
    assert client.infer(datatype, [given(triton, datatype, data)]).as_numpy("y").tobytes() == own.tobytes()


def test_a_large_batch_comes_back_bit_for_bit(
    client: triton.InferenceServerClient, http: triton_http.InferenceServerClient
) -> None:
    data = np.random.default_rng(1).random((2048, 256), np.float32)
    assert np.array_equal(client.infer("wide", [given(triton, "FP32", data)]).as_numpy("y"), data)
    assert np.array_equal(http.infer("wide", [given(triton_http, "FP32", data)]).as_numpy("y"), data)


def test_typed_contents_id_and_chosen_outputs(client: triton.InferenceServerClient, bridge: Bridge) -> None:
    request = service_pb2.ModelInferRequest(model_name="arithmetic", id="mine")
    for name in "ab":
        request.inputs.add(name=name, datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    request.outputs.add(name="sum")
    with grpc.insecure_channel(bridge.grpc.address) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "arithmetic", "1")
    assert [output.name for output in answer.outputs] == ["sum"]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2, 4, 6]


def test_json_in_and_out(bridge: Bridge) -> None:
    body = {"id": "mine", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    told = httpx.post(f"http://{bridge.rest.address}/v2/models/scale/versions/1/infer", json=body).json()
    assert (told["id"], told["model_version"], told["outputs"][0]["data"]) == ("mine", "1", [3, 6, 9, 12])


def test_a_stream_answers_in_order_and_an_error_ends_its_request_only(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(40):
        model = "nobody" if number == 20 else "scale"
        client.async_stream_infer(model, [given(triton, "FP32", X * number)], request_id=str(number))
    got = [answers.get(timeout=30) for _ in range(40)]
    client.stop_stream()
    assert [result.as_numpy("y")[0, 0] for result, error in got if error is None] == [
        3.0 * number for number in range(40) if number != 20
    ]
    assert "nobody" in str(got[20][1])


def test_a_stream_says_that_an_answer_is_final_where_asked(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("scale", [given(triton, "FP32", X)], enable_empty_final_response=True)
    result, error = answers.get(timeout=30)
    client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param
    assert result.as_numpy("y").tolist() == [[3.0] * 4]


async def _asyncio_calls(address: str) -> list[float]:
    async with triton_aio.InferenceServerClient(address) as client:
        calls = [client.infer("scale", [given(triton_aio, "FP32", X * number)]) for number in range(50)]
        return [float(answer.as_numpy("y")[0, 0]) for answer in await asyncio.gather(*calls)]


def test_the_asyncio_client_with_many_calls_at_once(bridge: Bridge) -> None:
    assert asyncio.run(_asyncio_calls(bridge.grpc.address)) == [3.0 * number for number in range(50)]


def test_health_and_metadata_are_told(
    client: triton.InferenceServerClient, http: triton_http.InferenceServerClient
) -> None:
    for one in (client, http):
        assert one.is_server_live()
        assert one.is_server_ready()
        assert one.is_model_ready("scale")
        assert one.is_model_ready("scale", "1")
        assert not one.is_model_ready("scale", "5")
        assert not one.is_model_ready("nobody")
    told = http.get_model_metadata("arithmetic")
    assert told["versions"] == ["1"]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in told["inputs"]} == {
        "a": ("FP32", [-1, 3]), "b": ("FP32", [-1, 3])
    }  # fmt: skip
    assert {one.name for one in client.get_model_metadata("arithmetic").outputs} == {"sum", "difference"}
    assert client.get_server_metadata().name == "atalaya"


@pytest.mark.parametrize(
    ("model", "version", "code"),
    [
        pytest.param("nobody", "", CODES.NOT_FOUND, id="model"),
        pytest.param("scale", "7", CODES.NOT_FOUND, id="version"),
        pytest.param("scale", str(2**64), CODES.NOT_FOUND, id="version beyond all"),
        pytest.param("scale", "odd", CODES.INVALID_ARGUMENT, id="label"),
    ],
)
def test_what_is_unknown_is_refused(
    client: triton.InferenceServerClient, http: triton_http.InferenceServerClient, model: str, version: str, code: Any
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [given(triton, "FP32", X)], model_version=version)
    assert caught.value.status() == str(code)
    with pytest.raises(InferenceServerException) as caught:
        http.infer(model, [given(triton_http, "FP32", X)], model_version=version)
    assert caught.value.status() == {CODES.NOT_FOUND: "404", CODES.INVALID_ARGUMENT: "400"}[code]


def test_a_request_that_does_not_fit_the_model_is_the_callers_fault(client: triton.InferenceServerClient) -> None:
    wrong = [
        [given(triton, "FP32", X, "z")],
        [given(triton, "INT32", X.astype(np.int32))],
        [given(triton, "FP32", np.ones((1, 5), np.float32))],
        [given(triton, "FP32", X), given(triton, "FP32", X)],
    ]
    for inputs in wrong:
        with pytest.raises(InferenceServerException) as caught:
            client.infer("scale", inputs)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_damaged_messages_are_refused_and_the_bridge_goes_on(
    client: triton.InferenceServerClient, bridge: Bridge
) -> None:
    request = service_pb2.ModelInferRequest(model_name="scale")
    request.inputs.add(name="x", datatype="FP32", shape=[3000, 4])
    request.raw_input_contents.append(np.ones((3000, 4), np.float32).tobytes())
    good = request.SerializeToString()
    with grpc.insecure_channel(bridge.grpc.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for bad in (good[:-7], good[:12], b"\xff" * 60, good[:20] + b"\x80" * 30 + good[50:]):
            code, _ = refusal(partial(call, bad, timeout=10))
            assert code == CODES.INVALID_ARGUMENT
    assert client.infer("scale", [given(triton, "FP32", X)]).as_numpy("y").tolist() == [[3.0] * 4]


def test_what_tensorflow_serving_cannot_tell_is_refused(
    client: triton.InferenceServerClient, http: triton_http.InferenceServerClient
) -> None:
    for one, told in ((client, "UNIMPLEMENTED"), (http, "501")):
        for call in (one.get_model_config, one.get_inference_statistics, one.load_model, one.unload_model):
            with pytest.raises(InferenceServerException) as caught:
                call("scale")
            assert told in caught.value.status()


def test_under_concurrent_load_every_caller_gets_its_own_answer(
    client: triton.InferenceServerClient, bridge: Bridge
) -> None:
    def one(number: int) -> bool:
        data = np.full((1 + number % 3, 256), number, np.float32)
        if number % 10 == 0:
            with triton_http.InferenceServerClient(bridge.rest.address) as own:
                return np.array_equal(own.infer("wide", [given(triton_http, "FP32", data)]).as_numpy("y"), data)
        return np.array_equal(client.infer("wide", [given(triton, "FP32", data)]).as_numpy("y"), data)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(400)))


def test_a_label_of_the_upstream_and_a_chosen_signature_are_reached(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    for version in (1, 2):
        save(scale(float(version)), tmp_path, "scale", version)
    config.write_text(
        f'model_config_list {{ config {{ name: "scale" base_path: "{tmp_path / "scale"}" model_platform: "tensorflow"'
        ' model_version_policy { all {} } version_labels { key: "stable" value: 1 } } }'
    )
    with (
        upstream(tmp_path, config=config) as behind,
        bridging(behind.address, "v2") as bridge,
        triton.InferenceServerClient(bridge.grpc.address) as client,
    ):
        answers = [client.infer("scale", [given(triton, "FP32", X)], version) for version in ("", "stable", "2")]
        assert [answer.get_response().model_version for answer in answers] == ["2", "1", "2"]
        assert [answer.as_numpy("y")[0, 0] for answer in answers] == [2.0, 1.0, 2.0]
        assert list(client.get_model_metadata("scale").versions) == ["1", "2"]


def test_another_signature_is_called_where_the_bridge_is_told_so(tmp_path: Path) -> None:
    tfs.save_half(tmp_path)
    a, b = np.full((1, 3), 5, np.float32), np.full((1, 3), 2, np.float32)
    with (
        upstream(tmp_path, backend="tensorflow") as behind,
        bridging(behind.address, "v2", signature="both") as bridge,
        triton.InferenceServerClient(bridge.grpc.address) as client,
    ):
        answer = client.infer("half", [given(triton, "FP32", a, "a"), given(triton, "FP32", b, "b")])
        assert answer.as_numpy("difference").tolist() == [[3.0] * 3]
        assert {one.name for one in client.get_model_metadata("half").inputs} == {"a", "b"}
