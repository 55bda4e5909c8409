"""Command lines as users write them in pod specs, each a process: it starts, its probes answer, it serves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from atalaya_serving.tfs import messages as tf
from atalaya_serving.tfs.tensors import from_proto, to_proto
from builders_serving import free_port, save, scale

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@dataclass
class Process:
    popen: subprocess.Popen[str]
    grpc_port: int
    rest_port: int

    def get(self, path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{self.rest_port}{path}", timeout=10).status_code

    def wait_for(self, path: str, seconds: float = 120.0) -> None:
        """As a startup probe does."""
        until = time.monotonic() + seconds
        while True:
            assert self.popen.poll() is None, self.popen.communicate()
            assert time.monotonic() < until, f"{path} did not answer in {seconds} s"
            try:
                if self.get(path) == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        self.popen.send_signal(signal.SIGTERM)
        told, _ = self.popen.communicate(timeout=60)
        return self.popen.returncode, told


@contextmanager
def process(face: str, arguments: Sequence[str], **environment: str) -> Iterator[Process]:
    """`{grpc}` and `{rest}` in the arguments become ports."""
    grpc_port, rest_port = free_port(), free_port()
    given = [argument.format(grpc=grpc_port, rest=rest_port) for argument in arguments]
    popen = subprocess.Popen(
        [sys.executable, "-m", "atalaya_serving", *given],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "ATALAYA_FACE": face, **environment},
    )  # fmt: skip
    try:
        yield Process(popen, grpc_port, rest_port)
    finally:
        popen.kill()
        popen.communicate()


def predict(port: int, model: str) -> list[list[float]]:
    request = tf.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(to_proto("FP32", X))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            tf.PredictRequest.SerializeToString,
            tf.PredictResponse.FromString,
        )
        answer: list[list[float]] = from_proto("y", call(request, timeout=60).outputs["y"])[1].tolist()
        return answer


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        pytest.param(
            "2025.4",
            ["--model_name", "tiles", "--model_path", "{root}/tiles", "--port", "{{grpc}}", "--rest_port", "{{rest}}",
             "--target_device", "CPU", "--metrics_enable", "--nireq", "2", "--log_level", "DEBUG",
             "--plugin_config", '{{{{"PERFORMANCE_HINT": "LATENCY"}}}}'],
            id="2025.4",
        ),
        pytest.param(
            "2026.2.1",
            ["--model_name=tiles", "--model_path={root}/tiles", "--port={{grpc}}", "--rest_port={{rest}}",
             '--model_version_policy={{{{"specific":{{{{"versions":[2]}}}}}}}}', "--target_device=CPU",
             "--grpc_channel_arguments=grpc.max_connection_age_ms=20000", "--file_system_poll_wait_seconds=0",
             "--grpc_memory_quota=2147483648", "--metrics_enable"],
            id="2026.2.1",
        ),
        pytest.param(
            "2026.3",
            ["--config_path", "{root}/config.json", "--port", "{{grpc}}", "--rest_port", "{{rest}}",
             "--grpc_bind_address", "127.0.0.1", "--rest_bind_address", "127.0.0.1", "--rest_workers", "4",
             "--metrics_enable", "--cache_dir", "{root}/cache"],
            id="2026.3",
        ),
    ],
)  # fmt: skip
def test_ovms_serves_what_a_pod_spec_says(tmp_path: Path, version: str, flags: list[str]) -> None:
    save(scale(3.0), tmp_path, "tiles", 2)
    entry = f'{{"config": {{"name": "tiles", "base_path": "{tmp_path}/tiles", "target_device": "CPU"}}}}'
    (tmp_path / "config.json").write_text(f'{{"model_config_list": [{entry}]}}')
    with process(f"ovms:{version}", [flag.format(root=tmp_path) for flag in flags]) as ovms:
        ovms.wait_for("/v2/models/tiles/ready")
        for path in (
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/tiles/versions/2/ready",
            "/metrics",
            "/v1/config",
        ):
            assert ovms.get(path) == 200, path
        given = triton.InferInput("x", X.shape, "FP32")
        given.set_data_from_numpy(X)
        with triton.InferenceServerClient(f"127.0.0.1:{ovms.grpc_port}") as client:
            assert client.infer("tiles", [given]).as_numpy("y").tolist() == (3 * X).tolist()
        if version != "2026.3":
            assert predict(ovms.grpc_port, "tiles") == (3 * X).tolist()
        code, told = ovms.end()
    assert code == 0
    assert told.count("accepted, without effect here") == (0 if version == "2025.4" else 1)


TFS_FILES = {
    "models.config": """model_config_list { config { name: "tiles" base_path: "%s/tiles" model_platform: "tensorflow"
        model_version_policy { specific { versions: 2 } } version_labels { key: "stable" value: 2 } } }""",
    "monitoring.config": 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }',
    "batching.config": "max_batch_size { value: 32 } batch_timeout_micros { value: 1000 }",
}


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        pytest.param(
            "2.16.1",
            ["--port={{grpc}}", "--rest_api_port={{rest}}", "--model_name=tiles", "--model_base_path={root}/tiles",
             "--monitoring_config_file={root}/monitoring.config", "--tensorflow_session_parallelism=2"],
            id="2.16",
        ),
        pytest.param(
            "2.20.0",
            ["--port={{grpc}}", "--rest_api_port={{rest}}", "--model_config_file={root}/models.config",
             "--model_config_file_poll_wait_seconds=60", "--allow_version_labels_for_unavailable_models=true",
             "--monitoring_config_file={root}/monitoring.config", "--enable_batching=true",
             "--batching_parameters_file={root}/batching.config", "--max_num_load_retries=2",
             "--load_retry_interval_micros=1000000", "--enable_grpc_healthcheck_service=true", "--made_up=1"],
            id="2.20",
        ),
    ],
)  # fmt: skip
def test_tensorflow_serving_serves_what_a_pod_spec_says(tmp_path: Path, version: str, flags: list[str]) -> None:
    save(scale(3.0), tmp_path, "tiles", 2)
    for name, text in TFS_FILES.items():
        (tmp_path / name).write_text(text.replace("%s", str(tmp_path)))
    arguments = [flag.format(root=tmp_path) for flag in flags]
    with process(f"tensorflow_model_server:{version}", arguments, ATALAYA_BACKEND="openvino") as tfs:
        tfs.wait_for("/v1/models/tiles/versions/2/metadata")
        assert tfs.get("/v1/models/tiles") == 200
        assert tfs.get("/monitoring/prometheus/metrics") == 200
        assert tfs.get("/v2/health/ready") == 404
        assert predict(tfs.grpc_port, "tiles") == (3 * X).tolist()
        code, told = tfs.end()
    assert code == 0
    assert ("unknown argument: --made_up=1\nusage: tensorflow_model_server\n" in told) == (version == "2.20.0")


@pytest.mark.timeout(600)
def test_a_savedmodel_is_served_by_tensorflow_itself_where_it_is_installed(tmp_path: Path) -> None:
    made = (
        "from pathlib import Path; import sys; import builders_tfs; builders_tfs.save_half(Path(sys.argv[1]), 'half')"
    )
    subprocess.run(
        [sys.executable, "-c", made, str(tmp_path)], check=True, capture_output=True, timeout=240,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    flags = ["--port={grpc}", "--rest_api_port={rest}", "--model_name=half", f"--model_base_path={tmp_path}/half"]
    with process("tensorflow_model_server", flags) as tfs:
        tfs.wait_for("/v1/models/half", 240)
        assert predict(tfs.grpc_port, "half") == (X / 2 + 2).tolist()
        code, told = tfs.end()
    assert code == 0
    assert "Running gRPC ModelServer at 0.0.0.0:" in told


@pytest.mark.parametrize(
    ("face", "arguments", "code", "words"),
    [
        ("ovms:2026.3", ["--stateful"], 64, "error parsing options - unmatched arguments: --stateful, "),
        ("ovms:2026.3", ["--model_name", "m", "--model_path", "/nowhere", "--port", "{grpc}"], 1,
         "Couldn't start model manager: m: /nowhere cannot be read"),
        ("tensorflow_model_server", ["--port={grpc}"], 255, "Failed to start server. Error: INVALID_ARGUMENT: Both"),
        ("ovms:1.0", [], 2, "ovms 1.0 is not known here; name one from 2025.0 to 2026.3."),
    ],
)  # fmt: skip
def test_a_server_that_cannot_start_ends_with_the_original_s_code(
    face: str, arguments: list[str], code: int, words: str
) -> None:
    with process(face, arguments) as ended:
        told, _ = ended.popen.communicate(timeout=120)
    assert ended.popen.returncode == code
    assert words in told
    assert "Traceback" not in told
