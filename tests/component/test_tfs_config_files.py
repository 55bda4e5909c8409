"""TensorFlow Serving's config files, as text protos on the command line: models, labels, polling, monitoring."""

import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

import builders_tfs as tfs
from atalaya_serving.errors import SettingsError
from atalaya_serving.policies import ALL, VersionPolicy
from atalaya_serving.server import Server
from atalaya_serving.settings import ModelSettings, parse_settings
from builders_serving import FakeEngine, fake_version, free_port

X = np.ones((1, 4), np.float32)


def write(folder: Path, text: str, name: str = "models.config") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def settings(*flags: object) -> Any:
    ports = ["--port", free_port(), "--rest_port", free_port()]
    return parse_settings([str(flag) for flag in (*ports, *flags)])


MODELS = """
# A comment, as people write them.
model_config_list {
  config {
    name: 'm'
    base_path: '%(root)s/m'
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 3 } }
    version_labels { key: 'stable' value: 1 }
    version_labels { key: 'canary' value: 3 }
  }
  config { name: 'newest' base_path: '%(root)s/m' model_version_policy { latest { num_versions: 2 } } }
  config { name: 'ir' base_path: '%(root)s/m' model_platform: "openvino" model_version_policy { all {} } }
}
"""


def test_models_policies_and_labels_are_read(tmp_path: Path) -> None:
    read = settings("--model_config_file", write(tmp_path, MODELS % {"root": tmp_path}), "--backend", "tensorflow")
    folder = tmp_path / "m"
    assert read.models == (
        ModelSettings("m", folder, VersionPolicy(specific=(1, 3))),
        ModelSettings("newest", folder, VersionPolicy(latest=2)),
        ModelSettings("ir", folder, ALL, backend="openvino"),
    )
    assert read.labels == {"m": {"stable": 1, "canary": 3}}
    assert read.backend == "tensorflow"


def test_threads_of_tensorflow_are_read(tmp_path: Path) -> None:
    read = settings("--model_config_file", write(tmp_path, ""), "--tensorflow_intra_op_parallelism", 3,
                    "--tensorflow_inter_op_parallelism", 2)  # fmt: skip
    assert (read.tfs.intra_op_threads, read.tfs.inter_op_threads) == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("model_config_list { confg {} }", r"is no text proto \(1:21 : Message type", id="typo"),
        pytest.param("model_config_list { config { base_path: '/m' } }", "a model has no name", id="no name"),
        pytest.param(
            "model_config_list { config { name: 'm' base_path: 'm' } }", "absolute path or URI", id="relative"
        ),
        pytest.param(
            "model_config_list { config { name: 'm' base_path: '/m' model_version_policy { specific {} } } }",
            "specific version policy without versions",
            id="no versions",
        ),
        pytest.param("custom_model_config {}", "custom_model_config is not supported", id="custom"),
    ],
)
def test_a_wrong_config_file_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        settings("--model_config_file", write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_config_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory; correct --model_config_file"):
        settings("--model_config_file", tmp_path / "none")


def test_a_server_starts_from_the_file_and_follows_it(tmp_path: Path) -> None:
    for version in (1, 2):
        fake_version(tmp_path, "m", version)
    entry = "config {{ name: 'm' base_path: '{root}/m' model_version_policy {{ all {{}} }} {labels} }}"
    text = f"model_config_list {{{{ {entry} }}}}"
    file = write(tmp_path, text.format(root=tmp_path, labels="version_labels { key: 'stable' value: 1 }"))
    server = Server(settings("--model_config_file", file, "--model_config_file_poll_wait_seconds", 1), FakeEngine())
    server.start()
    try:
        with grpc.insecure_channel(server.grpc.address) as channel:
            stubs = tfs.Stubs(channel)
            stable = tfs.predict_request("m", label="stable", x=X)
            assert stubs.predict(stable).model_spec.version.value == 1
            write(tmp_path, "broken {")
            time.sleep(1.5)
            assert stubs.predict(stable).model_spec.version.value == 1
            write(tmp_path, text.format(root=tmp_path, labels="version_labels { key: 'stable' value: 2 }"))
            until = time.monotonic() + 60
            while stubs.predict(stable).model_spec.version.value != 2:
                assert time.monotonic() < until
                time.sleep(0.05)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("text", "path", "status"),
    [
        (
            'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }',
            "/monitoring/prometheus/metrics",
            200,
        ),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics", 200),
        ('prometheus_config { path: "/elsewhere" }', "/elsewhere", 404),
    ],
)
def test_metrics_are_served_where_the_monitoring_config_says(tmp_path: Path, text: str, path: str, status: int) -> None:
    fake_version(tmp_path, "m", 1)
    file = write(tmp_path, text, "monitoring.config")
    server = Server(settings("--model_repository", tmp_path, "--monitoring_config_file", file), FakeEngine())
    server.start()
    try:
        httpx.post(f"http://{server.rest.address}/v1/models/m:predict", json={"instances": X.tolist()})
        answer = httpx.get(f"http://{server.rest.address}{path}")
    finally:
        server.stop()
    assert answer.status_code == status
    count = 'atalaya_requests_total{code="OK",model="m",protocol="tfs-rest",version="1"} 1.0'
    assert (count in answer.text) == (status == 200)
