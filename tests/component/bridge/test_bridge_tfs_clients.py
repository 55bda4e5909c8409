"""Unmodified TensorFlow Serving clients before a KServe v2 server get, bit for bit, what its own protocol gives."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2, model_management_pb2
from tritonclient.grpc import service_pb2, service_pb2_grpc

import builders_tfs as tfs
from atalaya_serving.bridge.server import Bridge
from atalaya_serving.settings import Settings
from builders_bridge import Upstream, bridging, refusal
from builders_serving import ELEMENTS, free_port

CODES = grpc.StatusCode
TYPES = {
    "BOOL": tf.bool, "UINT8": tf.uint8, "UINT16": tf.uint16, "UINT32": tf.uint32, "UINT64": tf.uint64,
    "INT8": tf.int8, "INT16": tf.int16, "INT32": tf.int32, "INT64": tf.int64, "FP16": tf.float16, "FP32": tf.float32,
    "FP64": tf.float64, "BF16": tf.bfloat16, "BYTES": tf.string,
}  # fmt: skip
LABELS = {"scale": {"stable": 1, "next": 2, "gone": 9}}


@pytest.fixture(scope="module", params=[True, False], ids=["short way", "ordinary way"])
def bridge(request: pytest.FixtureRequest, behind: Upstream) -> Iterator[Bridge]:
    with bridging(behind.address, "tfs", fast=request.param, labels=LABELS, models=("scale",)) as made:
        yield made


@pytest.fixture(scope="module")
def stubs(bridge: Bridge) -> Iterator[tfs.Stubs]:
    with grpc.insecure_channel(bridge.grpc.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield tfs.Stubs(channel)


@pytest.fixture(scope="module")
def http(bridge: Bridge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{bridge.rest.address}") as client:
        yield client


def values(datatype: str, rows: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(rows)
    if datatype == "BYTES":
        made = np.empty(rows * 4, object)
        made[:] = [rng.bytes(int(length)) for length in rng.integers(0, 9, rows * 4)]
        return made.reshape(rows, 4)
    if datatype == "BOOL":
        return rng.integers(0, 2, (rows, 4)).astype(bool)
    dtype = TYPES[datatype].as_numpy_dtype
    return rng.integers(0, 100, (rows, 4)).astype(dtype)


def directly(behind: Upstream, model: str, datatype: str, data: np.ndarray[Any, Any]) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype=datatype, shape=data.shape)
    request.raw_input_contents.append(data.tobytes())
    with grpc.insecure_channel(behind.address) as channel:
        return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)


@pytest.mark.parametrize("rows", [1, 3, 0], ids=["one row", "a batch", "empty"])
@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_dtype_comes_back_bit_for_bit(stubs: tfs.Stubs, datatype: str, rows: int) -> None:
    given = values(datatype, rows)
    (output,) = stubs.predict(
        tfs.predict_request(datatype, x=tf.make_tensor_proto(given, TYPES[datatype]))
    ).outputs.values()
    assert output.dtype == TYPES[datatype].as_datatype_enum
    got = tf.make_ndarray(output)
    assert got.shape == given.shape
    assert got.tolist() == given.tolist()


@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "INT64"])
def test_outputs_equal_those_of_the_upstreams_own_protocol(stubs: tfs.Stubs, behind: Upstream, datatype: str) -> None:
    given = values(datatype, 5)
    own = directly(behind, datatype, datatype, given).raw_output_contents[0]
    assert stubs.outputs(datatype, x=given)["y"].tobytes() == own


def test_a_large_batch_comes_back_bit_for_bit_as_content_and_as_typed_values(stubs: tfs.Stubs) -> None:
    given = np.random.default_rng(1).random((2048, 256), np.float32)
    assert np.array_equal(stubs.outputs("wide", x=given)["y"], given)
    request = tfs.predict_request("wide")
    typed = request.inputs["x"]
    typed.dtype = tf.float32.as_datatype_enum
    typed.tensor_shape.CopyFrom(tf.TensorShape(given.shape).as_proto())
    typed.float_val.extend(given.ravel().tolist())
    assert np.array_equal(tfs.arrays(stubs.predict(request))["y"], given)


def test_values_that_repeat_are_filled_in(stubs: tfs.Stubs) -> None:
    request = tfs.predict_request("scale")
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(2.0, shape=[2, 4]))
    assert tfs.arrays(stubs.predict(request))["y"].tolist() == [[6.0] * 4] * 2


def test_answers_have_typed_values_that_clients_read(stubs: tfs.Stubs) -> None:
    output = stubs.predict(tfs.predict_request("scale", x=np.ones((1, 4), np.float32))).outputs["y"]
    assert list(output.float_val) == [3.0] * 4


def test_several_inputs_and_a_filter_of_outputs(stubs: tfs.Stubs) -> None:
    a, b = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    both = stubs.outputs("arithmetic", a=a, b=b)
    assert (both["sum"].tolist(), both["difference"].tolist()) == ([[7.0] * 3] * 2, [[3.0] * 3] * 2)
    request = tfs.predict_request("arithmetic", a=a, b=b)
    request.output_filter.append("difference")
    assert list(tfs.arrays(stubs.predict(request))) == ["difference"]


def test_the_answer_names_model_version_and_signature(stubs: tfs.Stubs) -> None:
    spec = stubs.predict(tfs.predict_request("scale", label="stable", x=np.ones((1, 4), np.float32))).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("scale", 1, "serving_default")


X = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    ("model", "spec", "code", "told"),
    [
        pytest.param("nobody", {}, CODES.NOT_FOUND, "Servable not found for request: Latest(nobody)", id="model"),
        pytest.param("scale", {"version": 7}, CODES.NOT_FOUND, "Servable not found for request: Specific(scale, 7)",
                     id="version"),
        pytest.param("scale", {"label": "gone"}, CODES.NOT_FOUND, "Specific(scale, 9)", id="label of no version"),
        pytest.param("scale", {"label": "odd"}, CODES.INVALID_ARGUMENT, "Unrecognized servable version label: odd",
                     id="label"),
        pytest.param("scale", {"signature": "other"}, CODES.FAILED_PRECONDITION,
                     'Serving signature key "other" not found.', id="signature"),
        pytest.param("", {}, CODES.INVALID_ARGUMENT, "ModelSpec has no name specified.", id="no name"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused_with_the_code_and_words_that_clients_look_at(
    stubs: tfs.Stubs, model: str, spec: dict[str, Any], code: grpc.StatusCode, told: str
) -> None:
    got, details = refusal(lambda: stubs.predict(tfs.predict_request(model, x=X, **spec)))
    assert got == code
    assert told in details


def test_a_request_that_does_not_fit_the_model_is_the_callers_fault(stubs: tfs.Stubs) -> None:
    for wrong in ({"z": X}, {"x": X.astype(np.int32)}, {"x": np.ones((1, 5), np.float32)}, {}):
        assert (
            refusal(lambda wrong=wrong: stubs.predict(tfs.predict_request("scale", **wrong)))[0]
            == CODES.INVALID_ARGUMENT
        )  # type: ignore[misc]


def test_damaged_messages_are_refused_and_the_bridge_goes_on(stubs: tfs.Stubs, bridge: Bridge) -> None:
    good = tfs.predict_request("scale", x=np.ones((3000, 4), np.float32)).SerializeToString()
    with grpc.insecure_channel(bridge.grpc.address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for bad in (good[:-7], good[:40], b"\xff" * 60, b"\x12\x05", b"", good[:20] + b"\x80" * 30 + good[50:]):
            assert refusal(lambda bad=bad: call(bad, timeout=10))[0] == CODES.INVALID_ARGUMENT  # type: ignore[misc]
    assert stubs.outputs("scale", x=X)["y"].tolist() == [[3.0] * 4]


def test_a_message_beyond_the_limit_is_refused_and_the_bridge_goes_on(behind: Upstream) -> None:
    listen = Settings(grpc_port=free_port(), rest_port=free_port(), max_message_bytes=10_000)
    with bridging(behind.address, "tfs", listen=listen) as small, grpc.insecure_channel(small.grpc.address) as channel:
        stubs = tfs.Stubs(channel)
        large = tfs.predict_request("scale", x=np.ones((3000, 4), np.float32))
        assert refusal(lambda: stubs.predict(large))[0] == CODES.RESOURCE_EXHAUSTED
        assert (
            httpx.post(f"http://{small.rest.address}/v1/models/scale:predict", content=b"x" * 20_000).status_code == 413
        )
        assert stubs.outputs("scale", x=X)["y"].tolist() == [[3.0] * 4]


def test_metadata_tells_the_signature(stubs: tfs.Stubs) -> None:
    signature = stubs.metadata("arithmetic").signature_def["serving_default"]
    assert set(signature.inputs) == {"a", "b"}
    assert signature.inputs["a"].dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in signature.outputs["sum"].tensor_shape.dim] == [-1, 3]
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "nobody"
    assert refusal(lambda: stubs.prediction.GetModelMetadata(request, timeout=10))[0] == CODES.NOT_FOUND


def test_status_tells_the_versions(stubs: tfs.Stubs) -> None:
    assert stubs.states("scale") == {1: "AVAILABLE"}
    assert refusal(lambda: stubs.status("nobody")) == (CODES.NOT_FOUND, "Could not find any versions of model nobody")
    assert refusal(lambda: stubs.status("scale", version=4))[0] == CODES.NOT_FOUND


def test_classify_gives_the_scores_of_the_models_output(stubs: tfs.Stubs) -> None:
    examples = [tfs.example(x=[1.0, 2.0, 3.0, 4.0]), tfs.example(x=[0.0, 0.0, 0.0, 1.0])]
    answer = stubs.prediction.Classify(tfs.classify_request("scale", examples, signature="classify"), timeout=30)
    assert [[one.score for one in row.classes] for row in answer.result.classifications] == [
        [3.0, 6.0, 9.0, 12.0], [0.0, 0.0, 0.0, 3.0]
    ]  # fmt: skip


def test_a_reload_of_the_upstreams_models_is_refused(stubs: tfs.Stubs) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    assert refusal(lambda: stubs.model.HandleReloadConfigRequest(request, timeout=10))[0] == CODES.UNIMPLEMENTED


def test_rest_predicts_in_rows_and_columns(http: httpx.Client) -> None:
    rows = http.post("/v1/models/scale:predict", json={"instances": [[1.0, 2, 3, 4]]})
    assert rows.json() == {"predictions": [[3.0, 6.0, 9.0, 12.0]]}
    columns = http.post(
        "/v1/models/arithmetic/versions/1:predict", json={"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}}
    )
    assert columns.json() == {"outputs": {"sum": [[2.0, 3.0, 4.0]], "difference": [[0.0, 1.0, 2.0]]}}
    labelled = http.post("/v1/models/scale/labels/stable:predict", json={"instances": [[1.0, 2, 3, 4]]})
    assert labelled.status_code == 200


def test_rest_tells_status_metadata_and_what_is_wrong(http: httpx.Client) -> None:
    (version,) = http.get("/v1/models/scale").json()["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    told = http.get("/v1/models/scale/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert told["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert http.get("/v1/models/nobody").status_code == 404
    assert http.post("/v1/models/nobody:predict", json={"instances": [[1.0]]}).status_code == 404
    assert http.post("/v1/models/scale:predict", json={"instances": [["a"]]}).status_code == 400


def test_health_and_metrics_are_the_bridges_own(http: httpx.Client, bridge: Bridge, stubs: tfs.Stubs) -> None:
    stubs.outputs("scale", x=X)
    assert http.get("/v2/health/live").status_code == http.get("/v2/health/ready").status_code == 200
    told = http.get("/metrics").text
    assert 'atalaya_bridge_requests_total{code="OK",model="scale",protocol="tfs-grpc",version="1"}' in told
    assert "atalaya_bridge_upstream_ready 1.0" in told
    with grpc.insecure_channel(bridge.grpc.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        states = [health.Check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "scale")]
    assert states == [health_pb2.HealthCheckResponse.SERVING] * 2


def test_under_concurrent_load_every_caller_gets_its_own_answer(stubs: tfs.Stubs, http: httpx.Client) -> None:
    def one(number: int) -> bool:
        given = np.full((1 + number % 3, 256), number, np.float32)
        if number % 10 == 0:
            told = http.post("/v1/models/wide:predict", json={"instances": given.tolist()}).json()["predictions"]
            return bool(told == given.tolist())
        return np.array_equal(stubs.outputs("wide", x=given)["y"], given)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(400)))
