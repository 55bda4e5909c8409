"""The server as a `tensorflow_model_server`: when its ports open, what it lacks, its files, its metrics, TLS."""

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atalaya_serving import grpc_fast
from atalaya_serving.faces.ended import Ended
from atalaya_serving.tfs import messages as tf
from atalaya_serving.tfs.tensors import from_proto, to_proto
from atalaya_spec import tfs as tables
from builders_faces import TfsServer, grpc_address, key, labels_by_name, rest, running_tfs, samples, tfs_server, until
from builders_serving import FakeEngine, fake_version

X = np.ones((2, 4), np.float32)
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def one(root: Path) -> tuple[str, ...]:
    return ("--model_name=m", f"--model_base_path={root / 'm'}")


def predict(channel: grpc.Channel, model: str = "m", label: str = "") -> list[Any]:
    request = tf.PredictRequest()
    request.model_spec.name = model
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(to_proto("FP32", X))
    call = channel.unary_unary(PREDICT, tf.PredictRequest.SerializeToString, tf.PredictResponse.FromString)
    answer: list[Any] = from_proto("y", call(request, timeout=10).outputs["y"])[1].tolist()
    return answer


def is_open(port: int) -> bool:
    with socket.socket() as one_socket:
        return one_socket.connect_ex(("127.0.0.1", port)) == 0


def monitoring(folder: Path, text: str = "prometheus_config { enable: true }") -> str:
    file = folder / "monitoring.config"
    file.write_text(text)
    return f"--monitoring_config_file={file}"


def test_only_its_own_api_is_offered(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 2)
    with running_tfs("2.20.0", *one(tmp_path)) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        assert predict(channel) == (2 * X).tolist()
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ServerLive(triton.service_pb2.ServerLiveRequest(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(triton.service_pb2.ModelInferRequest(model_name="m"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        for path in ("/v2/health/ready", "/v2/models/m", "/metrics", "/monitoring/prometheus/metrics", "/"):
            assert rest(server).get(path).status_code == 404, path


def test_health_is_offered_where_its_flag_asks_for_it(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with (
        running_tfs("2.16.1", *one(tmp_path), "--enable_grpc_healthcheck_service") as server,
        grpc.insecure_channel(grpc_address(server)) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="m"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def started_aside(server: TfsServer) -> threading.Thread:
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    return thread


def test_the_ports_open_when_the_model_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "m").mkdir()
    server = tfs_server("2.20.0", *one(tmp_path), "--file_system_poll_wait_seconds=1")
    thread = started_aside(server)
    try:
        until(lambda: "waiting for a version" in caplog.text)
        assert not is_open(server.settings.grpc_port)
        assert not is_open(server.settings.rest_port)
        (said,) = [record for record in caplog.records if record.message == "waiting for a version"]
        assert "has no integer version folder" in vars(said)["reason"]
        fake_version(tmp_path, "m", 1)
        until(lambda: is_open(server.settings.grpc_port) and is_open(server.settings.rest_port))
        thread.join(10)
        assert rest(server).get("/v1/models/m").status_code == 200
    finally:
        server.stop()


def test_a_server_that_waits_for_its_model_can_be_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = tfs_server("2.20.0", *one(tmp_path))
    thread = started_aside(server)
    until(lambda: "waiting for a version" in caplog.text)
    server.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_model_that_cannot_be_loaded_is_tried_again_and_then_ends_the_server(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1, "broken")
    engine = FakeEngine()
    flags = (*one(tmp_path), "--max_num_load_retries=2", "--load_retry_interval_micros=1000",
             "--file_system_poll_wait_seconds=0")  # fmt: skip
    server = tfs_server("2.20.0", *flags, engine=engine)
    try:
        told = (
            r"Failed to start server. Error: UNKNOWN: 1 servable\(s\) did not become available: {{name: m version: 1}"
        )
        with pytest.raises(Ended, match=told) as caught:
            server.start()
    finally:
        server.stop()
    assert (caught.value.code, caught.value.is_error) == (255, False)
    assert engine.loads == ["1", "1", "1"]


def test_a_model_that_loads_at_the_second_try_is_served(tmp_path: Path) -> None:
    folder = fake_version(tmp_path, "m", 1, "broken")
    flags = ("--max_num_load_retries=5000", "--load_retry_interval_micros=50000", "--file_system_poll_wait_seconds=0")
    server = tfs_server("2.20.0", *one(tmp_path), *flags)
    thread = started_aside(server)
    try:
        until(lambda: server.repository.index()[0].state == "UNAVAILABLE")
        (folder / "model.xml").write_text("fine")
        until(lambda: is_open(server.settings.grpc_port))
    finally:
        thread.join(10)
        server.stop()


def test_a_port_that_is_taken_ends_the_server(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        server = tfs_server("2.20.0", *one(tmp_path), f"--port={taken.getsockname()[1]}")
        with pytest.raises(Ended, match=r"Failed to start server\. Error: UNKNOWN: gRPC cannot listen"):
            server.start()
        server.stop()


def test_a_new_version_takes_over_and_the_old_one_goes(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    with (
        running_tfs("2.20.0", *one(tmp_path), "--file_system_poll_wait_seconds=1") as server,
        grpc.insecure_channel(grpc_address(server)) as channel,
    ):
        fake_version(tmp_path, "m", 3)
        until(lambda: predict(channel) == (3 * X).tolist())


def test_a_model_config_file_is_followed(tmp_path: Path) -> None:
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    file = tmp_path / "models.config"
    text = """model_config_list {{ config {{ name: "m" base_path: "{root}/m" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: {stable} }} }} }}"""
    file.write_text(text.format(root=tmp_path, stable=1))
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    with running_tfs("2.20.0", *flags) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        assert predict(channel, label="stable") == X.tolist()
        file.write_text("broken {")
        file.write_text(text.format(root=tmp_path, stable=2))
        until(lambda: predict(channel, label="stable") == (2 * X).tolist())


@pytest.mark.parametrize(("flags", "allowed"), [(("--rest_api_enable_cors_support",), "*"), ((), None)])
def test_pages_of_other_sites_are_let_in_where_the_flag_asks(
    tmp_path: Path, flags: tuple[str, ...], allowed: str | None
) -> None:
    fake_version(tmp_path, "m", 1)
    with running_tfs("2.20.0", *one(tmp_path), *flags) as server:
        address = f"http://127.0.0.1:{server.settings.rest_port}/v1/models/m"
        answer = httpx.get(address, headers={"Origin": "https://map.example"}, timeout=10)
    assert answer.headers.get("access-control-allow-origin") == allowed


def test_a_model_that_stays_the_same_is_not_loaded_again(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    fake_version(tmp_path, "n", 2)
    file, engine = tmp_path / "models.config", FakeEngine()
    entry = 'config {{ name: "{name}" base_path: "{root}/{name}" model_platform: "tensorflow" }}'
    entries = [entry.format(name=name, root=tmp_path) for name in "mn"]
    file.write_text(f"model_config_list {{ {entries[0]} }}")
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    with running_tfs("2.20.0", *flags, engine=engine) as server:
        file.write_text(f"model_config_list {{ {' '.join(entries)} }}")
        until(lambda: rest(server).get("/v1/models/n").status_code == 200 and "2" in engine.loads)
        until(lambda: server.repository.ready_versions("n") == [2])
    assert engine.loads == ["1", "2"]


@pytest.mark.parametrize("fast", [True, False], ids=["short way", "ordinary way"])
def test_metrics_have_the_original_s_names_labels_and_buckets(tmp_path: Path, fast: bool) -> None:
    fake_version(tmp_path, "m", 1)
    flags = (*one(tmp_path), monitoring(tmp_path), "--file_system_poll_wait_seconds=1")
    with running_tfs("2.20.0", *flags, fast=fast) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        client = rest(server)
        for _ in range(2):
            predict(channel)
        for model in ("m", "unknown"):
            with pytest.raises(grpc.RpcError):
                predict(channel, model, label="none")
        client.post("/v1/models/m:predict", json={"instances": X.tolist()})
        client.post("/v1/models/m:predict", json={"instances": "x"})
        fake_version(tmp_path, "m", 2)
        until(lambda: predict(channel) == (2 * X).tolist())
        well = key(":tensorflow:serving:request_count", model_name="m", status="OK")
        path = "/monitoring/prometheus/metrics"
        until(lambda: samples(client.get(path).text)[well] >= 4)
        answer = client.get(path)
    told = samples(answer.text)
    by_grpc = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    by_rest = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    latency = ":tensorflow:serving:request_latency"
    assert told[key(":tensorflow:serving:request_count", model_name="m", status="INVALID_ARGUMENT")] == 2
    assert told[key(f"{latency}_count", **by_grpc)] == told[well] - 1
    assert told[key(f"{latency}_count", **by_rest)] == 1
    assert told[key(f"{latency}_bucket", le="+Inf", **by_rest)] == 1
    runtime = key(":tensorflow:serving:runtime_latency_count", model_name="m", API="Predict", runtime="TF1")
    assert told[runtime] == told[well]
    bounds = [
        dict(labels)["le"] for (name, labels) in told if name == f"{latency}_bucket" and by_rest.items() <= labels
    ]
    assert bounds[:5] == ["10", "18", "32.4", "58.32", "104.976"]
    assert "708235" in bounds
    assert (len(bounds), bounds[-1]) == (34, "+Inf")
    assert labels_by_name(answer.text) == {name: set(of) for name, of in tables.server("2.20.0").metrics.labels.items()}
    assert "unknown" not in answer.text
    assert "atalaya" not in answer.text
    assert "# TYPE :tensorflow:serving:request_count counter" in answer.text


def test_predict_takes_the_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_version(tmp_path, "m", 1)
    taken = []
    original = grpc_fast.FastCall.start
    monkeypatch.setattr(grpc_fast.FastCall, "start", lambda self: (taken.append(1), original(self))[1])
    with running_tfs("2.20.0", *one(tmp_path)) as server, grpc.insecure_channel(grpc_address(server)) as channel:
        assert predict(channel) == X.tolist()
    assert taken == [1]


def test_metrics_are_where_the_monitoring_config_puts_them(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    config = monitoring(tmp_path, 'prometheus_config { enable: true path: "/elsewhere" }')
    with running_tfs("2.20.0", *one(tmp_path), config) as server:
        assert rest(server).get("/elsewhere").status_code == 200
        assert rest(server).get("/monitoring/prometheus/metrics").status_code == 404


def certificate(folder: Path) -> tuple[str, str]:
    key_file, file = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
         str(key_file), "-out", str(file), "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost"], check=True, capture_output=True,
    )  # fmt: skip
    return key_file.read_text(), file.read_text()


def test_an_ssl_config_file_secures_grpc(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    private, public = certificate(tmp_path)
    file = tmp_path / "ssl.config"
    lines = (f'server_key: "{private}" server_cert: "{public}"').replace("\n", "\\n")
    file.write_text(lines)
    with running_tfs("2.20.0", *one(tmp_path), f"--ssl_config_file={file}") as server:
        port = server.settings.grpc_port
        secure = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(public.encode()))
        with secure as channel:
            assert predict(channel) == X.tolist()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            predict(channel)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_grpc_listens_on_a_socket_too(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 1)
    path = tmp_path / "s"
    with running_tfs("2.20.0", *one(tmp_path), f"--grpc_socket_path={path}") as server:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert predict(channel) == X.tolist()
        with grpc.insecure_channel(grpc_address(server)) as channel:
            assert predict(channel) == X.tolist()
