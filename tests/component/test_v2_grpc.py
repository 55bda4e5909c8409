"""Unmodified tritonclient over gRPC against a running server: every standard call and every extension, both ways in."""

import asyncio
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from atalaya_serving import grpc_fast
from atalaya_serving.server import Server
from builders_serving import arithmetic, echo, running, save, scale

NUMERIC = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


@pytest.fixture(scope="module", params=[True, False], ids=["short way", "ordinary way"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for datatype in [*NUMERIC, "BF16", "BYTES"]:
        save(echo(datatype), root, f"echo-{datatype}")
    save(arithmetic(), root, "arithmetic")
    save(scale(3.0), root, "scale", 3)
    with running(root, fast=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    assert server.grpc is not None
    return server.grpc.address


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as made:
        yield made


@pytest.fixture
def stub(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def given(name: str, tensor: np.ndarray, datatype: str | None = None) -> triton.InferInput:
    made = triton.InferInput(name, tensor.shape, datatype or np_to_triton_dtype(tensor.dtype))
    made.set_data_from_numpy(tensor)
    return made


def sample(datatype: str, rows: int = 3) -> np.ndarray:
    """Values that survive OpenVINO's CPU plugin, which computes 64-bit types in 32 bits."""
    random = np.random.default_rng(7)
    dtype = np.dtype({"FP16": "f2", "FP32": "f4", "FP64": "f8", "BOOL": "?"}.get(datatype, datatype.lower()))
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -(2**20)), min(limits.max, 2**20)
        return random.integers(low, high, (rows, 4), dtype, endpoint=True)
    if dtype.kind == "b":
        return random.random((rows, 4)) > 0.5
    return random.standard_normal((rows, 4)).astype(np.float16).astype(dtype)


def test_health_and_metadata_are_told(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale")
    assert client.is_model_ready("scale", "3")
    assert not client.is_model_ready("scale", "4")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata().name == "atalaya"
    told = client.get_model_metadata("arithmetic", as_json=True)
    assert told["versions"] == ["1"]
    assert told["platform"] == "OpenVINO"
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in told["inputs"]] == [
        ("a", "FP32", ["-1", "3"]),
        ("b", "FP32", ["-1", "3"]),
    ]
    assert [tensor["name"] for tensor in told["outputs"]] == ["sum", "difference"]


@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_datatype_passes_unchanged(client: triton.InferenceServerClient, datatype: str) -> None:
    tensor = sample(datatype)
    back = client.infer(f"echo-{datatype}", [given("x", tensor)]).as_numpy("y")
    assert back.dtype == tensor.dtype
    np.testing.assert_array_equal(back, tensor)


def test_bfloat16_passes_as_its_raw_bits(stub: Any) -> None:
    bits = np.array([[0x3F80, 0xBF80, 0x4000, 0x0001]], np.uint16)
    request = service_pb2.ModelInferRequest(model_name="echo-BF16", raw_input_contents=[bits.tobytes()])
    request.inputs.add(name="x", datatype="BF16", shape=[1, 4])
    answer = stub.ModelInfer(request)
    assert answer.outputs[0].datatype == "BF16"
    assert answer.raw_output_contents[0] == bits.tobytes()


def test_strings_pass_through_a_model_with_a_string_input(client: triton.InferenceServerClient) -> None:
    tensor = np.array([[b"damaged", "not öffen".encode(), b"", b"x"]], dtype=object)
    back = client.infer("echo-BYTES", [given("x", tensor, "BYTES")]).as_numpy("x")
    assert back.tolist() == tensor.tolist()


def test_no_strings_at_all_pass_too(stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="echo-BYTES", raw_input_contents=[b""])
    request.inputs.add(name="x", datatype="BYTES", shape=[0, 4])
    answer = stub.ModelInfer(request)
    assert (list(answer.outputs[0].shape), answer.raw_output_contents[0]) == ([0, 4], b"")


def test_typed_contents_are_read_as_the_standard_says(stub: Any) -> None:
    fields = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents",
              "UINT64": "uint64_contents", "INT8": "int_contents", "UINT16": "uint_contents"}  # fmt: skip
    for datatype, name in fields.items():
        tensor = sample(datatype, rows=1)
        request = service_pb2.ModelInferRequest(model_name=f"echo-{datatype}")
        one = request.inputs.add(name="x", datatype=datatype, shape=[1, 4])
        getattr(one.contents, name).extend(tensor.ravel().tolist())
        assert stub.ModelInfer(request).raw_output_contents[0] == tensor.tobytes(), datatype


def test_a_request_may_ask_for_some_outputs_and_gets_its_id_back(client: triton.InferenceServerClient) -> None:
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    answer = client.infer(
        "arithmetic",
        [given("b", b), given("a", a)],
        outputs=[triton.InferRequestedOutput("difference")],
        request_id="42",
    )
    assert answer.as_numpy("sum") is None
    np.testing.assert_array_equal(answer.as_numpy("difference"), a - b)
    told = answer.get_response()
    assert (told.id, told.model_name, told.model_version) == ("42", "arithmetic", "1")
    both = client.infer("arithmetic", [given("b", b), given("a", a)])
    np.testing.assert_array_equal(both.as_numpy("sum"), a + b)


@pytest.mark.parametrize("rows", [0, 1, 5, 300, 40_000])
def test_any_batch_size_is_taken_and_large_ones_too(client: triton.InferenceServerClient, rows: int) -> None:
    tensor = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    back = client.infer("scale", [given("x", tensor)], model_version="3").as_numpy("y")
    assert back.shape == (rows, 4)
    np.testing.assert_allclose(back, 3 * tensor, rtol=1e-2)


def test_alternating_shapes_never_mix_answers(client: triton.InferenceServerClient) -> None:
    for rows in (1, 3, 1, 2, 9, 3, 1, 12, 11, 10, 8, 7, 6, 5, 4, 1):
        tensor = np.full((rows, 4), rows, np.float32)
        back = client.infer("scale", [given("x", tensor)]).as_numpy("y")
        np.testing.assert_allclose(back, 3 * tensor)


def test_async_calls_with_callbacks_are_all_answered(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(20):
        tensor = np.full((1, 4), number, np.float32)
        client.async_infer("scale", [given("x", tensor)], lambda result, error: answers.put((result, error)),
                           request_id=str(number))  # fmt: skip
    for _ in range(20):
        result, error = answers.get(timeout=10)
        assert error is None
        assert result.as_numpy("y")[0, 0] == 3 * int(result.get_response().id)


def test_a_stream_answers_in_order_and_survives_an_error(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(12):
        name = "nothing" if number == 5 else "scale"
        client.async_stream_infer(name, [given("x", np.full((1, 4), number, np.float32))], request_id=str(number))
    got = [answers.get(timeout=10) for _ in range(12)]
    client.stop_stream()
    assert "no model 'nothing'" in str(got[5][1])
    ids = [result.get_response().id for result, error in got if error is None]
    assert ids == [str(number) for number in range(12) if number != 5]
    assert all(result.as_numpy("y")[0, 0] == 3 * int(result.get_response().id) for result, error in got if not error)


def test_a_stream_marks_its_final_response_where_asked(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("scale", [given("x", np.ones((1, 4), np.float32))], enable_empty_final_response=True)
    result, error = answers.get(timeout=10)
    client.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_the_asyncio_client_works_with_streams_too(address: str) -> None:
    async def talk() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            tensors = [np.full((1, 4), number, np.float32) for number in range(8)]
            answers = await asyncio.gather(*(client.infer("scale", [given("x", one)]) for one in tensors))
            assert [answer.as_numpy("y")[0, 0] for answer in answers] == [3.0 * number for number in range(8)]

            async def requests() -> Any:
                for number in range(4):
                    yield {"model_name": "scale", "inputs": [given("x", tensors[number])], "request_id": str(number)}

            got = [result.get_response().id async for result, error in client.stream_infer(requests()) if not error]
            assert got == ["0", "1", "2", "3"]

    asyncio.run(talk())


def test_compressed_calls_are_understood(client: triton.InferenceServerClient) -> None:
    tensor = np.ones((4, 4), np.float32)
    for algorithm in ("gzip", "deflate"):
        back = client.infer("scale", [given("x", tensor)], compression_algorithm=algorithm).as_numpy("y")
        np.testing.assert_allclose(back, 3 * tensor)


def test_config_statistics_and_index_are_told_as_triton_tells_them(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("scale").config
    assert config.parameters["digest"].string_value.startswith("sha256:")
    assert config.max_batch_size > 0
    assert list(config.input[0].dims) == [4]
    before = client.get_inference_statistics("scale").model_stats[0]
    client.infer("scale", [given("x", np.ones((5, 4), np.float32))])
    for _ in range(100):  # counted right after the answer is handed over
        after = client.get_inference_statistics("scale", "3").model_stats[0]
        if after.inference_count - before.inference_count == 5:
            break
    assert after.inference_count - before.inference_count == 5
    assert after.execution_count - before.execution_count == 1
    assert len(client.get_inference_statistics().model_stats) >= 16
    index = {line.name: line.state for line in client.get_model_repository_index().models}
    assert index["scale"] == "READY"


def test_a_model_is_unloaded_and_loaded_by_request(client: triton.InferenceServerClient) -> None:
    client.unload_model("echo-INT8")
    assert not client.is_model_ready("echo-INT8")
    with pytest.raises(InferenceServerException, match="unloaded on request") as caught:
        client.infer("echo-INT8", [given("x", sample("INT8"))])
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("echo-INT8")
    assert client.is_model_ready("echo-INT8")
    with pytest.raises(InferenceServerException, match="no model 'nothing'"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="takes no parameters"):
        client.load_model("echo-INT8", config="{}")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client: client.get_system_shared_memory_status(), id="system shared memory"),
        pytest.param(lambda client: client.register_system_shared_memory("r", "/k", 8), id="register"),
        pytest.param(lambda client: client.unregister_system_shared_memory(), id="unregister"),
        pytest.param(lambda client: client.get_cuda_shared_memory_status(), id="cuda status"),
        pytest.param(lambda client: client.register_cuda_shared_memory("r", b"", 0, 8), id="cuda register"),
        pytest.param(lambda client: client.unregister_cuda_shared_memory(), id="cuda unregister"),
        pytest.param(lambda client: client.get_trace_settings(), id="trace"),
        pytest.param(lambda client: client.update_trace_settings(settings={"trace_rate": "1"}), id="set trace"),
        pytest.param(lambda client: client.get_log_settings(), id="log"),
        pytest.param(lambda client: client.update_log_settings({"log_info": True}), id="set log"),
    ],
)
def test_what_is_not_offered_says_so(client: triton.InferenceServerClient, call: Any) -> None:
    with pytest.raises(InferenceServerException, match="does not offer it") as caught:
        call(client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


TENSOR = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("model", "version", "inputs", "status", "told"),
    [
        pytest.param("nope", "", [given("x", TENSOR)], "NOT_FOUND", "there is no model 'nope' here; this server has:",
                     id="unknown model"),
        pytest.param("scale", "9", [given("x", TENSOR)], "NOT_FOUND", "no version '9' here; it serves: 3",
                     id="unknown version"),
        pytest.param("scale", "", [given("z", TENSOR)], "INVALID_ARGUMENT",
                     "input 'x' of model 'scale' is missing; it takes 'x', the request has 'z'", id="wrong name"),
        pytest.param("scale", "", [given("x", TENSOR), given("z", TENSOR)], "INVALID_ARGUMENT",
                     "has no input 'z'; it takes 'x'", id="one too many"),
        pytest.param("scale", "", [given("x", TENSOR), given("x", TENSOR)], "INVALID_ARGUMENT", "is given twice",
                     id="twice"),
        pytest.param("scale", "", [given("x", np.ones((2, 5), np.float32))], "INVALID_ARGUMENT",
                     "has shape [-1, 4] (-1 is any size), the request has [2, 5]", id="wrong shape"),
        pytest.param("scale", "", [given("x", np.ones(4, np.float32))], "INVALID_ARGUMENT", "the request has [4]",
                     id="wrong rank"),
        pytest.param("scale", "", [given("x", TENSOR.astype(np.float64))], "INVALID_ARGUMENT",
                     "is FP32, the request has FP64; convert it", id="wrong dtype"),
        pytest.param("scale", "", [given("x", np.array([[b"a"] * 4], dtype=object), "BYTES")], "INVALID_ARGUMENT",
                     "it has no string input", id="strings for numbers"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_with_what_is_right(
    client: triton.InferenceServerClient, model: str, version: str, inputs: list[Any], status: str, told: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs, model_version=version)
    assert caught.value.status() == f"StatusCode.{status}"
    assert told in caught.value.message()


def test_wrong_outputs_byte_counts_and_mixtures_are_refused(client: triton.InferenceServerClient, stub: Any) -> None:
    with pytest.raises(InferenceServerException, match="has no output 'z'; it gives 'y'"):
        client.infer("scale", [given("x", TENSOR)], outputs=[triton.InferRequestedOutput("z")])
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("scale", [given("x", TENSOR)], outputs=[triton.InferRequestedOutput("y", class_count=1)])

    def refused(request: Any) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
        return str(caught.value.details())

    request = service_pb2.ModelInferRequest(model_name="scale", raw_input_contents=[b"123"])
    one = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    assert "has 3 bytes; FP32 of shape [1, 4] is 16 bytes" in refused(request)
    request.raw_input_contents.append(b"")
    assert "1 inputs and 2 raw_input_contents" in refused(request)
    del request.raw_input_contents[1]
    one.contents.fp32_contents.append(1)
    assert "both raw_input_contents and typed contents" in refused(request)
    del request.raw_input_contents[:]
    assert "has 1 values; shape [1, 4] is 4" in refused(request)
    one.contents.int_contents.append(1)
    assert "has int_contents; use fp32_contents" in refused(request)
    one.ClearField("contents")
    one.parameters["shared_memory_region"].string_param = "r"
    assert "shared memory" in refused(request)


def test_grpc_health_answers_for_the_server_and_for_models(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "scale"):
            told = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert told.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nothing"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service="scale"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_a_message_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    save(scale(3.0), tmp_path, "scale")
    with running(tmp_path, max_message_bytes=10_000) as server:
        assert server.grpc is not None
        with triton.InferenceServerClient(server.grpc.address) as client:
            with pytest.raises(InferenceServerException) as caught:
                client.infer("scale", [given("x", np.ones((1000, 4), np.float32))])
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            assert client.infer("scale", [given("x", TENSOR)]).as_numpy("y").shape == (2, 4)


def test_the_short_way_is_really_taken_with_this_grpcio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    original = grpc_fast.FastCall.start
    monkeypatch.setattr(grpc_fast.FastCall, "start", lambda self: (taken.append(1), original(self))[1])
    save(scale(3.0), tmp_path, "scale")
    with running(tmp_path) as server:
        assert server.grpc is not None
        with triton.InferenceServerClient(server.grpc.address) as client:
            client.infer("scale", [given("x", TENSOR)])
    assert taken == [1]


def test_another_inner_layer_of_grpcio_falls_back_to_the_ordinary_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_fast, "cygrpc", object())
    save(scale(3.0), tmp_path, "scale")
    with running(tmp_path) as server:
        assert server.grpc is not None
        with triton.InferenceServerClient(server.grpc.address) as client:
            np.testing.assert_allclose(client.infer("scale", [given("x", TENSOR)]).as_numpy("y"), 3 * TENSOR)
    assert "another inner layer" in caplog.text
