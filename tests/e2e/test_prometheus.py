"""A real Prometheus scrapes the faces, and answers the queries that people ask of the originals."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from atalaya_dashboard.metrics import ModelKey, Window
from atalaya_dashboard.prometheus import PrometheusWatch
from atalaya_serving.tfs import messages as tf
from atalaya_serving.tfs.tensors import to_proto
from builders_engines import three_engines
from builders_faces import grpc_address, rest, running_ovms, running_tfs, until
from builders_serving import fake_version, free_port

X = np.ones((1, 4), np.float32)
CALLS = 20


@contextmanager
def prometheus(folder: Path, targets: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Prometheus over `targets`, a port and a path by job, which is the namespace too; gives its address."""
    program = shutil.which("prometheus")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("prometheus is not installed: tests/system-packages.sh does that")
    assert program is not None, "prometheus is not installed"
    scrapes = [
        {
            "job_name": job,
            "metrics_path": path,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": job}}],
        }
        for job, (port, path) in targets.items()
    ]
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with subprocess.Popen(
        [program, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as popen:
        try:
            until(lambda: is_ready(f"http://{address}"), 60)
            yield f"http://{address}"
        finally:
            popen.terminate()


def is_ready(address: str) -> bool:
    """Until it has read its storage it answers with 503, and before that not at all."""
    try:
        return httpx.get(f"{address}/-/ready", timeout=10).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def query(address: str, asked: str) -> dict[str, float]:
    """The value of an instant query, by its labels as JSON."""
    answer: Any = httpx.get(f"{address}/api/v1/query", params={"query": asked}, timeout=10).json()
    assert answer["status"] == "success", answer
    return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in answer["data"]["result"]}


def value(address: str, asked: str) -> float:
    return next(iter(query(address, asked).values()), float("nan"))


def call_both(ovms_address: str, tfs_address: str) -> None:
    given = triton.InferInput("x", X.shape, "FP32")
    given.set_data_from_numpy(X)
    request = tf.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(to_proto("FP32", X))
    path = "/tensorflow.serving.PredictionService/Predict"
    with triton.InferenceServerClient(ovms_address) as client, grpc.insecure_channel(tfs_address) as channel:
        predict = channel.unary_unary(path, tf.PredictRequest.SerializeToString, tf.PredictResponse.FromString)
        for _ in range(CALLS):
            client.infer("m", [given])
            predict(request, timeout=20)


def test_prometheus_reads_the_original_s_names_and_labels(tmp_path: Path) -> None:
    fake_version(tmp_path, "m", 3)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    as_ovms = ("--model_name", "m", "--model_path", str(tmp_path / "m"), "--metrics_enable")
    as_tfs = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", f"--monitoring_config_file={monitoring}")
    with running_ovms("2026.2.1", *as_ovms) as ovms, running_tfs("2.20.0", *as_tfs) as tfs:
        targets = {
            "ovms": (ovms.settings.rest_port, "/metrics"),
            "tfs": (tfs.settings.rest_port, "/monitoring/prometheus/metrics"),
        }
        with prometheus(tmp_path, targets) as address:
            until(lambda: value(address, "count(up == 1)") == 2, 60)
            call_both(grpc_address(ovms), grpc_address(tfs))
            rest(ovms).get("/v2/models/m")
            done = 'ovms_requests_success{api="KServe",interface="gRPC",method="ModelInfer",name="m",version="3"}'
            until(lambda: value(address, done) == CALLS)
            until(lambda: value(address, ':tensorflow:serving:request_count{model_name="m",status="OK"}') == CALLS)
            latency = ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"}'
            until(lambda: value(address, latency) == CALLS)
            for quantile in (
                'histogram_quantile(0.95, sum by (le) (ovms_request_time_us_bucket{name="m",interface="gRPC"}))',
                'histogram_quantile(0.95, sum by (le) (:tensorflow:serving:request_latency_bucket{model_name="m"}))',
            ):
                assert 10 < value(address, quantile) < 60_000_000
            assert value(address, 'ovms_current_requests{name="m"} / ovms_streams{name="m"}') == 0
            counted = query(address, '{__name__=~"ovms_.*|:tensorflow:.*", __name__!~".*_bucket"}')
            names = {json.loads(labels)["__name__"] for labels in counted}
            types = httpx.get(f"{address}/api/v1/metadata", timeout=10).json()["data"]
    assert not [name for name in names if name.endswith("_total")]
    kinds = {name: told[0]["type"] for name, told in types.items()}
    assert kinds["ovms_requests_success"] == kinds[":tensorflow:serving:request_count"] == "counter"
    assert kinds["ovms_request_time_us"] == kinds[":tensorflow:serving:request_latency"] == "histogram"
    assert kinds["ovms_streams"] == "gauge"


def test_the_dashboard_shows_all_three_engines_from_prometheus(tmp_path: Path) -> None:
    with three_engines(tmp_path) as engines:
        targets = {name: (one.port, one.metrics_path) for name, one in engines.items()}
        for one in engines.values():
            one.call()  # a rate needs two readings: the first request of a kind makes its series
            one.fail(1)
        with prometheus(tmp_path, targets) as address:
            until(lambda: value(address, "count(up == 1)") == 3, 60)
            watch = PrometheusWatch(address)

            def shown() -> dict[ModelKey, Window]:
                watch.ask_once()
                source = watch.source()
                assert source.error == ""
                return {key: now.window for key in source.models() if (now := source.lately(key, 60.0))}

            until(lambda: value(address, "min(count_over_time(up[1m]))") >= 3, 60)
            for one in engines.values():
                one.call(20)
                one.fail(5)
                one.probe(9)
            ended = time.time()
            until(lambda: value(address, "min(timestamp(up))") > ended, 60)  # all of it was scraped
            found = shown()
            with engines["openvino"].queueing(5), engines["atalaya"].queueing(6):
                until(lambda: [one.queue_depth for one in shown().values()] == [4, 3, None], 60)
    assert [str(key) for key in found] == ["atalaya/m v3", "openvino/m v3", "tensorflow/m"]
    for one in found.values():
        assert 0.01 < one.p50 <= one.p95 <= one.p99 < 60
        share = one.errors_per_second / one.requests_per_second
        assert share == pytest.approx(5 / 25, abs=0.08), "probes are no requests"
