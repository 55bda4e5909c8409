"""The server as an `ovms`: what it answers, what it lacks as the original does, its config file, its metrics."""

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atalaya_serving.faces.ended import Ended
from atalaya_serving.tfs import messages as tf
from atalaya_spec import ovms as tables
from builders_faces import (
    config_file,
    grpc_address,
    key,
    labels_by_name,
    ovms_server,
    rest,
    running_ovms,
    samples,
    until,
)
from builders_serving import FakeEngine, fake_version

X = np.ones((2, 4), np.float32)
METRICS = ("--metrics_enable",)
TFS = "/tensorflow.serving."


def one(root: Path) -> tuple[str, ...]:
    return ("--model_name", "m", "--model_path", str(root / "m"))


def given() -> triton.InferInput:
    tensor = triton.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    return tensor


def metadata_request() -> Any:
    request = tf.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    return request


def code_of(call: Any, *arguments: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=10)
    return caught.value.code()


@pytest.mark.parametrize("version", ["2025.4", "2026.3"])
def test_kserve_clients_are_answered(tmp_path: Path, version: str) -> None:
    fake_version(tmp_path, "m", 3)
    with running_ovms(version, *one(tmp_path)) as server, triton.InferenceServerClient(grpc_address(server)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        metadata = client.get_server_metadata()
        assert (metadata.name, metadata.version, list(metadata.extensions)) == ("OpenVINO Model Server", version, [])
        assert client.infer("m", [given()]).as_numpy("y").tolist() == (3 * X).tolist()
        assert rest(server).get("/v2").json() == {"name": "OpenVINO Model Server", "version": version}
        with triton_http.InferenceServerClient(f"127.0.0.1:{server.settings.rest_port}") as web:
            tensor = triton_http.InferInput("x", X.shape, "FP32")
            tensor.set_data_from_numpy(X)
            assert web.infer("m", [tensor]).as_numpy("y").tolist() == (3 * X).tolist()


def test_what_is_triton_s_or_ours_is_not_offered(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running_ovms("2026.2.1", *one(tmp_path)) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        messages = triton.service_pb2
        assert code_of(stub.ModelConfig, messages.ModelConfigRequest(name="m")) == grpc.StatusCode.UNIMPLEMENTED
        assert code_of(stub.RepositoryIndex, messages.RepositoryIndexRequest()) == grpc.StatusCode.UNIMPLEMENTED
        assert code_of(stub.ModelStatistics, messages.ModelStatisticsRequest()) == grpc.StatusCode.UNIMPLEMENTED
        assert (
            code_of(stub.RepositoryModelUnload, messages.RepositoryModelUnloadRequest(model_name="m"))
            == grpc.StatusCode.UNIMPLEMENTED
        )
        health = health_pb2_grpc.HealthStub(channel)
        assert code_of(health.Check, health_pb2.HealthCheckRequest()) == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(
            grpc.RpcError, match="Mediapipe graph definition with requested name is not found"
        ) as caught:
            list(stub.ModelStreamInfer(iter([messages.ModelInferRequest(model_name="m")]), timeout=10))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        client = rest(server)
        for path in ("/v2/models/m/config", "/v2/models/m/stats", "/metrics", "/v2/logging", "/x"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (400, {"error": "Invalid request URL"}), path
        assert client.post("/v2/repository/index").status_code == 400


PREFLIGHT = {"Origin": "https://map.example", "Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize(
    ("version", "flags", "allowed"),
    [
        pytest.param("2026.3", (), "*", id="by default"),
        pytest.param(
            "2026.3", ("--allowed_origins", "https://map.example,https://b"), "https://map.example", id="named"
        ),
        pytest.param("2026.3", ("--allowed_origins", "https://b"), None, id="another"),
        pytest.param("2025.2", (), None, id="before it was known"),
    ],
)
def test_pages_of_other_sites_are_let_in_as_the_version_does(
    tmp_path: Path, version: str, flags: tuple[str, ...], allowed: str | None
) -> None:
    fake_version(tmp_path, "m", 1)
    with running_ovms(version, *one(tmp_path), *flags) as server:
        address = f"http://127.0.0.1:{server.settings.rest_port}/v2/models/m"
        answer = httpx.get(address, headers={"Origin": "https://map.example"}, timeout=10)
        before = httpx.options(f"{address}/infer", headers=PREFLIGHT, timeout=10)
    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert before.headers.get("access-control-allow-origin") == allowed


def test_the_server_is_ready_while_a_model_of_its_config_failed(tmp_path: Path) -> None:
    fake_version(tmp_path, "good", 1)
    fake_version(tmp_path, "bad", 1, "broken")
    file = config_file(tmp_path, {"name": "good", "base_path": "good"}, {"name": "bad", "base_path": "bad"})
    with running_ovms("2026.3", "--config_path", file) as server:
        client = rest(server)
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/good/ready").status_code == 200
        assert client.get("/v2/models/bad/ready").status_code == 404
        told = client.get("/v1/config").json()
        assert told["good"]["model_version_status"][0]["state"] == "AVAILABLE"
        failed = {"error_code": "UNKNOWN", "error_message": "UNKNOWN"}
        assert told["bad"] == {"model_version_status": [{"version": "1", "state": "LOADING", "status": failed}]}
        with triton.InferenceServerClient(grpc_address(server)) as grpc_client:
            assert grpc_client.is_server_ready()
            with pytest.raises(triton.InferenceServerException, match="not found"):
                grpc_client.is_model_ready("bad")


def test_the_server_is_not_ready_before_the_models_were_tried(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    server = ovms_server("2026.3", *one(tmp_path))
    server.listen()
    try:
        assert rest(server).get("/v2/health/live").status_code == 200
        assert rest(server).get("/v2/health/ready").status_code == 503
        assert rest(server).get("/v2/models/m/ready").status_code == 404
    finally:
        server.stop()


@pytest.mark.parametrize("text", ["broken", None], ids=["broken", "absent"])
def test_the_one_model_of_the_command_line_must_serve(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        fake_version(tmp_path, "m", 1, text)
    server = ovms_server("2026.3", *one(tmp_path))
    try:
        with pytest.raises(Ended, match="Couldn't start model manager: m: ") as caught:
            server.start()
    finally:
        server.stop()
    assert caught.value.code == 1


@pytest.mark.parametrize("flags", [("--mean", "1"), ("--layout", "NHWC:NCHW"), ("--precision", "u8")])
def test_a_flag_that_would_change_answers_is_never_passed_over(tmp_path: Path, flags: tuple[str, ...]) -> None:
    fake_version(tmp_path, "m", 1)
    file = config_file(tmp_path, {"name": "m", "base_path": "m", flags[0][2:]: flags[1]})
    with running_ovms("2026.2.1", "--config_path", file) as server:
        assert server.repository.index()[0].reason.startswith(f"{flags[0][2:]} would change the model's answers")
        with (
            triton.InferenceServerClient(grpc_address(server)) as client,
            pytest.raises(triton.InferenceServerException, match="would change the model's answers"),
        ):
            client.infer("m", [given()])


def test_what_is_accepted_without_effect_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake_version(tmp_path, "m", 1)
    file = config_file(tmp_path, {"name": "m", "base_path": "m", "allow_cache": True})
    with running_ovms("2026.2.1", "--config_path", file, "--grpc_memory_quota", 10**9):
        said = [vars(record)["asked"] for record in caplog.records if "without effect" in record.message]
    assert said == ["--grpc_memory_quota", "allow_cache of model m"]


def states(server: Any) -> dict[str, list[str]]:
    told = rest(server).get("/v1/config").json()
    return {name: [f"{one['version']} {one['state']}" for one in model["model_version_status"]]
            for name, model in told.items()}  # fmt: skip


def test_a_config_is_taken_anew_on_request(tmp_path: Path) -> None:
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    fake_version(tmp_path, "n", 1)
    config_file(tmp_path, {"name": "m", "base_path": "m"})
    with running_ovms("2026.3", "--config_path", tmp_path, "--file_system_poll_wait_seconds", 0) as server:
        client = rest(server)
        assert states(server) == {"m": ["2 AVAILABLE"]}
        assert client.post("/v1/config/reload").status_code == 200
        config_file(
            tmp_path,
            {"name": "m", "base_path": "m", "model_version_policy": {"all": {}}},
            {"name": "n", "base_path": str(tmp_path / "n")},
        )
        answer = client.post("/v1/config/reload")
        assert answer.status_code == 201
        assert list(answer.json()) == ["m", "n"]
        assert states(server) == {"m": ["2 AVAILABLE", "1 AVAILABLE"], "n": ["1 AVAILABLE"]}
        (tmp_path / "config.json").write_text("{")
        for _ in range(2):
            failed = client.post("/v1/config/reload")
            assert failed.status_code == 500
            assert failed.json() == {"error": "Reloading config file failed. Check server logs for more info."}
        assert states(server)["n"] == ["1 AVAILABLE"]
        (tmp_path / "config.json").unlink()
        assert client.post("/v1/config/reload").json() == {"error": "Config file not found or cannot open."}
        config_file(tmp_path, {"name": "n", "base_path": "n"})
        assert client.post("/v1/config/reload").status_code == 201
        assert states(server) == {"n": ["1 AVAILABLE"]}


def test_a_new_version_is_taken_on_request(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running_ovms("2026.2.1", *one(tmp_path), "--file_system_poll_wait_seconds", 0) as server:
        fake_version(tmp_path, "m", 2)
        assert rest(server).post("/v1/config/reload").status_code == 201
        until(lambda: states(server) == {"m": ["2 AVAILABLE", "1 END"]})


def test_a_config_and_its_folders_are_followed(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "n", 1)
    file = config_file(tmp_path, {"name": "m", "base_path": "m"})
    with running_ovms("2026.3", "--config_path", file, "--file_system_poll_wait_seconds", 1) as server:
        config_file(tmp_path, {"name": "m", "base_path": "m"}, {"name": "n", "base_path": "n"})
        fake_version(tmp_path, "m", 2)
        until(lambda: states(server) == {"m": ["2 AVAILABLE", "1 END"], "n": ["1 AVAILABLE"]})
        shutil.rmtree(tmp_path / "m" / "2")
        config_file(tmp_path, {"name": "m", "base_path": "m"})
        until(lambda: states(server) == {"m": ["2 END", "1 AVAILABLE"]})


def test_a_changed_setting_of_a_model_loads_it_again(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "still", 1)
    engine = FakeEngine()
    still = {"name": "still", "base_path": "still"}
    file = config_file(tmp_path, {"name": "m", "base_path": "m"}, still)
    with running_ovms("2026.3", "--config_path", file, "--file_system_poll_wait_seconds", 0, engine=engine) as server:
        assert len(engine.loads) == 2
        config_file(tmp_path, {"name": "m", "base_path": "m", "nireq": 5}, still)
        assert rest(server).post("/v1/config/reload").status_code == 201
        assert len(engine.loads) == 3
        assert states(server) == {"m": ["1 AVAILABLE"], "still": ["1 AVAILABLE"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not a valid JSON file"),
        ("{}", "is not in valid configuration format: no model_config_list"),
        ('{"model_config_list": [], "models": []}', "is not in valid configuration format: models"),
        ('{"model_config_list": [{"config": {"base_path": "m"}}]}', "a model without a name"),
        ('{"model_config_list": [{"config": {"name": "m", "base_path": "m", "backend": "x"}}]}',
         "model m: backend is not in valid configuration format"),
        ('{"model_config_list": [{"config": {"name": "m", "base_path": "m", "stateful": true}}]}',
         "model m: stateful is not in valid configuration format"),
        ('{"model_config_list": [], "pipeline_config_list": [{}]}', "has pipeline_config_list, which this server"),
        ('{"model_config_list": [], "monitoring": {}}', "is not in valid configuration format: monitoring"),
        ('{"model_config_list": [{"config": {"name": "m", "base_path": "m", "nireq": "x"}}]}', "a positive integer"),
    ],
)  # fmt: skip
def test_a_config_that_the_original_refuses_ends_the_server(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Ended, match=told) as caught:
        ovms_server("2026.3", "--config_path", tmp_path / "config.json")
    assert caught.value.code == 1
    assert caught.value.words.count("\n") == 1


def test_a_model_in_a_store_elsewhere_is_refused_with_what_to_do(tmp_path: Path) -> None:
    told = "s3://bucket/models/m is not a folder, and this server fetches nothing; put the model into a folder"
    with (
        pytest.raises(Ended, match=told) as caught,
        running_ovms("2026.3", "--model_name", "m", "--model_path", "s3://bucket/models/m"),
    ):
        pass
    assert caught.value.code == 1
    fake_version(tmp_path, "near", 1)
    models = [{"name": "near", "base_path": str(tmp_path / "near")}, {"name": "far", "base_path": "gs://bucket/far"}]
    config = config_file(tmp_path, *models)
    with running_ovms("2026.3", "--config_path", config) as server:
        states = {line.name: (line.state, line.reason) for line in server.repository.index()}
    assert states["near"][0] == "READY"
    assert states["far"][0] == "UNAVAILABLE"
    assert states["far"][1].startswith("gs://bucket/far is not a folder")


def test_metrics_have_the_original_s_names_labels_and_buckets(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running_ovms("2026.2.1", *one(tmp_path), *METRICS) as server:
        client = rest(server)
        with triton.InferenceServerClient(grpc_address(server)) as grpc_client:
            for _ in range(3):
                grpc_client.infer("m", [given()])
            with pytest.raises(triton.InferenceServerException):
                grpc_client.infer("m", [given()], outputs=[triton.InferRequestedOutput("z")])
            grpc_client.get_model_metadata("m")
        with grpc.insecure_channel(grpc_address(server)) as channel:
            ask = channel.unary_unary(f"{TFS}PredictionService/GetModelMetadata")
            ask(metadata_request().SerializeToString(), timeout=10)
            assert code_of(ask, b"no message") == grpc.StatusCode.INVALID_ARGUMENT
        client.get("/v2/models/m/ready")
        client.post("/v1/models/m:predict", json={"instances": X.tolist()})
        served = {"name": "m", "version": "1"}
        done = key("ovms_requests_success", api="KServe", interface="gRPC", method="ModelInfer", **served)
        until(lambda: samples(client.get("/metrics").text)[done] == 3)
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    told = samples(answer.text)
    success, fail = "ovms_requests_success", "ovms_requests_fail"
    assert told[key(fail, api="KServe", interface="gRPC", method="ModelInfer", **served)] == 1
    assert told[key(success, api="KServe", interface="gRPC", method="ModelMetadata", **served)] == 1
    assert told[key(success, api="TensorFlowServing", interface="gRPC", method="GetModelMetadata", **served)] == 1
    assert told[key(success, api="KServe", interface="REST", method="ModelReady", name="m")] == 1
    assert told[key(success, api="TensorFlowServing", interface="REST", method="Predict", **served)] == 1
    assert told[key("ovms_request_time_us_count", interface="gRPC", **served)] == 4
    assert told[key("ovms_request_time_us_bucket", interface="gRPC", le="1474755971", **served)] == 4
    assert told[key("ovms_inference_time_us_count", **served)] == 4
    assert told[key("ovms_wait_for_infer_req_time_us_count", **served)] == 4
    assert told[key("ovms_streams", **served)] == 2
    assert told[key("ovms_current_requests", **served)] == 0
    bounds = [dict(labels)["le"] for (name, labels) in told if name == "ovms_inference_time_us_bucket"]
    assert bounds[:6] == ["10", "18", "32", "58", "104", "188"]
    assert (len(bounds), bounds[-1]) == (34, "+Inf")
    assert "atalaya" not in answer.text
    assert not [name for name, _ in told if name.startswith("ovms_infer_req")]


def test_times_are_in_microseconds(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with running_ovms("2026.3", *one(tmp_path), *METRICS, engine=FakeEngine(seconds=0.05)) as server:
        rest(server).post("/v2/models/m/infer", json={"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})  # fmt: skip
        total = key("ovms_inference_time_us_sum", name="m", version="1")
        until(lambda: samples(rest(server).get("/metrics").text)[total] > 0)
        told = samples(rest(server).get("/metrics").text)
    assert 50_000 <= told[total] < 5_000_000
    assert told[key("ovms_inference_time_us_bucket", le="37481", name="m", version="1")] == 0
    assert told[key("ovms_inference_time_us_bucket", le="+Inf", name="m", version="1")] == 1
    assert not [labels for _, labels in told if ("api", "TensorFlowServing") in labels]


def test_every_metric_of_a_model_in_the_table_is_told_with_its_labels(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    table = tables.server("2026.2.1").metrics.labels
    of_graphs = {"ovms_current_graphs", "ovms_requests_accepted", "ovms_requests_rejected", "ovms_responses"}
    with running_ovms("2026.2.1", *one(tmp_path), *METRICS, "--metrics_list", ",".join(table)) as server:
        told = labels_by_name(rest(server).get("/metrics").text)
    assert told == {name: set(labels) for name, labels in table.items() if name not in of_graphs}


@pytest.mark.parametrize("way", ["flag", "config"])
def test_only_the_metrics_that_are_listed_are_told(tmp_path: Path, way: str) -> None:
    fake_version(tmp_path, "m", 1)
    listed = ["ovms_streams", "ovms_infer_req_queue_size", "ovms_infer_req_active"]
    monitoring = {"metrics": {"enable": True, "metrics_list": listed}}
    file = config_file(tmp_path, {"name": "m", "base_path": "m"}, monitoring=monitoring)
    flags = (*one(tmp_path), *METRICS, "--metrics_list", ",".join(listed))
    with running_ovms("2026.3", *(flags if way == "flag" else ("--config_path", file))) as server:
        told = samples(rest(server).get("/metrics").text)
    assert {name for name, _ in told} == set(listed)
    assert json.loads(file.read_text())["monitoring"] == monitoring
