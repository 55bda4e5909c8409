"""What our server tells over gRPC, how it refuses, and both ways in. What all servers do is in conformance/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from atalaya_serving import grpc_fast
from atalaya_serving.server import Server
from builders_serving import arithmetic, echo, running, save, scale


@pytest.fixture(scope="module", params=[True, False], ids=["short way", "ordinary way"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    save(echo("INT8"), root, "echo-INT8")
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
    assert {one.name for one in client.get_inference_statistics().model_stats} >= {"scale", "arithmetic"}
    index = {line.name: line.state for line in client.get_model_repository_index().models}
    assert index["scale"] == "READY"


def test_a_model_is_unloaded_and_loaded_by_request(client: triton.InferenceServerClient) -> None:
    client.unload_model("echo-INT8")
    assert not client.is_model_ready("echo-INT8")
    with pytest.raises(InferenceServerException, match="unloaded on request") as caught:
        client.infer("echo-INT8", [given("x", np.ones((1, 4), np.int8))])
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
