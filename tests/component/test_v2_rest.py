"""What our server tells over HTTP, how it refuses, and its limits. What all servers do is in conformance/."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from atalaya_serving.server import Server
from builders_serving import arithmetic, echo, running, save, scale

TENSOR = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    save(echo("FP16"), root, "echo-FP16")
    save(arithmetic(), root, "arithmetic")
    save(scale(3.0), root, "scale", 3)
    with running(root, max_message_bytes=1 << 20) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    assert server.rest is not None
    with triton.InferenceServerClient(server.rest.address) as made:
        yield made


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    assert server.rest is not None
    with httpx.Client(base_url=f"http://{server.rest.address}", trust_env=False) as made:
        yield made


def given(name: str, tensor: np.ndarray, datatype: str | None = None, *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(tensor.shape), datatype or np_to_triton_dtype(tensor.dtype))
    made.set_data_from_numpy(tensor, binary_data=binary)
    return made


def body(**changes: Any) -> dict[str, Any]:
    one = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    return {"inputs": [one]}


def test_health_and_metadata_are_told(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale", "3")
    assert not client.is_model_ready("scale", "4")
    assert client.get_server_metadata()["name"] == "atalaya"
    told = client.get_model_metadata("scale")
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["versions"] == ["3"]
    assert client.get_model_config("scale")["parameters"]["digest"]["string_value"].startswith("sha256:")
    assert client.get_inference_statistics("scale")["model_stats"][0]["name"] == "scale"
    assert {line["name"] for line in client.get_model_repository_index()} >= {"scale", "arithmetic"}


def test_a_model_is_unloaded_and_loaded_by_request(client: triton.InferenceServerClient) -> None:
    client.unload_model("echo-FP16")
    assert not client.is_model_ready("echo-FP16")
    client.load_model("echo-FP16")
    assert client.is_model_ready("echo-FP16")
    with pytest.raises(InferenceServerException, match="no model 'nothing'"):
        client.load_model("nothing")


@pytest.mark.parametrize(
    ("path", "sent", "status", "told"),
    [
        pytest.param("nope", body(), 404, "there is no model 'nope' here", id="unknown model"),
        pytest.param("scale/versions/9", body(), 404, "no version '9' here; it serves: 3", id="unknown version"),
        pytest.param("scale", body(name="z"), 400, "input 'x' of model 'scale' is missing", id="wrong name"),
        pytest.param("scale", body(shape=[1, 5], data=[1] * 5), 400, "the request has [1, 5]", id="wrong shape"),
        pytest.param("scale", body(datatype="FP64"), 400, "is FP32, the request has FP64", id="wrong dtype"),
        pytest.param("scale", body(datatype="FLOAT"), 400, "KServe v2 knows", id="unknown dtype"),
        pytest.param("scale", body(data=[1, 2]), 400, "has 2 values; shape [1, 4] is 4", id="too few values"),
        pytest.param("scale", body(data=["a"] * 4), 400, "not all numbers", id="strings for numbers"),
        pytest.param("scale", body(shape="1,4"), 400, "has no shape", id="shape is a string"),
        pytest.param("scale", body(shape=[True, 4]), 400, "has no shape", id="shape has a boolean"),
        pytest.param("scale", body(data=None), 400, "has no data", id="no data"),
        pytest.param("scale", body(data=[[1, 2], 3, 4]), 400, "nested to different depths", id="ragged"),
        pytest.param("scale", body(parameters=3), 400, "no JSON object", id="parameters are a number"),
        pytest.param("scale", {}, 400, "has no inputs", id="no inputs"),
        pytest.param("scale", [], 400, "no JSON object", id="a list"),
        pytest.param("scale", body() | {"outputs": [{"name": "z"}]}, 400, "has no output 'z'", id="unknown output"),
        pytest.param("scale", body() | {"outputs": {}}, 400, "outputs is no list", id="outputs are an object"),
        pytest.param("scale", body() | {"id": 3}, 400, "id is not a string", id="id is a number"),
        pytest.param("scale", body(parameters={"binary_data_size": 16}), 400, "0 bytes are left", id="missing bytes"),
        pytest.param("scale", body(parameters={"shared_memory_region": "r"}), 501, "shared memory", id="shared memory"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_with_what_is_right(
    http: httpx.Client, path: str, sent: Any, status: int, told: str
) -> None:
    answer = http.post(f"/v2/models/{path}/infer", json=sent)
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_wrong_binary_bodies_are_refused(http: httpx.Client) -> None:
    head = json.dumps(body(data=None, parameters={"binary_data_size": 16}) | {}).replace('"data": null, ', "").encode()

    def told(content: bytes, length: str, status: int = 400) -> str:
        headers = {"Inference-Header-Content-Length": length}
        answer = http.post("/v2/models/scale/infer", content=content, headers=headers)
        assert answer.status_code == status
        return str(answer.json()["error"])

    assert "the body has" in told(head, str(len(head) + 1))
    assert "the body has" in told(head, "x")
    assert "12 bytes are left" in told(head + bytes(12), str(len(head)))
    assert "4 bytes follow the last binary input" in told(head + bytes(20), str(len(head)))
    assert "without JSON" in told(bytes(16), "0", 501)


def test_nan_is_refused_as_json_and_travels_as_bytes(http: httpx.Client, client: triton.InferenceServerClient) -> None:
    tensor = np.array([[np.nan, 1, 2, 3]], np.float32)
    assert np.isnan(client.infer("scale", [given("x", tensor)]).as_numpy("y")[0, 0])
    with pytest.raises(InferenceServerException, match="ask for binary_data"):
        client.infer("scale", [given("x", tensor)], outputs=[triton.InferRequestedOutput("y", binary_data=False)])


def test_a_body_beyond_the_limit_is_refused_also_when_it_unpacks_to_that(http: httpx.Client) -> None:
    def status(content: Any, **headers: str) -> int:
        return http.post("/v2/models/scale/infer", content=content, headers=headers).status_code

    assert status(bytes(2 << 20)) == 413
    assert status(iter([bytes(1 << 19)] * 4)) == 413
    for name, packed in (("gzip", gzip.compress(bytes(64 << 20))), ("deflate", zlib.compress(bytes(64 << 20)))):
        assert len(packed) < 1 << 20
        assert status(packed, **{"Content-Encoding": name}) == 413
    assert status(b"no gzip", **{"Content-Encoding": "gzip"}) == 400
    assert status(gzip.compress(b"{}")[:-4], **{"Content-Encoding": "gzip"}) == 400
    assert status(b"", **{"Content-Encoding": "br"}) == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/r/register", 501),
        ("GET", "/v2/trace/setting", 501),
        ("POST", "/v2/logging", 501),
        ("GET", "/v2/models/scale/infer", 405),
        ("GET", "/v3", 404),
        ("GET", "/v2/models/%2e%2e%2fx/ready", 404),
    ],
)
def test_other_paths_are_answered_with_an_error_in_json(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_metrics_have_the_names_that_the_dashboard_reads(http: httpx.Client) -> None:
    http.post("/v2/models/arithmetic/infer", json={})
    for _ in range(3):
        http.post("/v2/models/scale/infer", json=body(shape=[2, 4], data=[1] * 8))
    families = {family.name: family for family in text_string_to_metric_families(http.get("/metrics").text)}
    told = {name: family.type for name, family in families.items()}
    assert told == {
        "atalaya_request_seconds": "histogram", "atalaya_inference_seconds": "histogram",
        "atalaya_queue_seconds": "histogram", "atalaya_requests": "counter", "atalaya_inferences": "counter",
        "atalaya_queue_depth": "gauge", "atalaya_requests_in_flight": "gauge", "atalaya_model_ready": "gauge",
        "atalaya_info": "gauge",
    }  # fmt: skip
    labels = {name: set(family.samples[0].labels) - {"le"} for name, family in families.items()}
    assert labels["atalaya_request_seconds"] == {"model", "version", "protocol"}
    assert labels["atalaya_inference_seconds"] == labels["atalaya_queue_depth"] == {"model", "version"}
    assert labels["atalaya_requests"] == {"model", "version", "protocol", "code"}
    assert labels["atalaya_info"] == {"version", "openvino", "precision", "processor"}
    counts = {
        (sample.labels["model"], sample.labels["protocol"], sample.labels["code"]): sample.value
        for sample in families["atalaya_requests"].samples
        if sample.name == "atalaya_requests_total"
    }
    assert counts["scale", "rest", "OK"] >= 3
    assert counts["", "rest", "INVALID_ARGUMENT"] >= 1


def test_metrics_can_be_left_off(tmp_path: Path) -> None:
    save(scale(3.0), tmp_path, "scale")
    with running(tmp_path, metrics=False, grpc_port=0) as server:
        assert server.grpc is None
        assert server.rest is not None
        assert httpx.get(f"http://{server.rest.address}/metrics", trust_env=False).status_code == 404
