"""TensorFlow Serving's REST API over both engines: rows, columns, base64, examples, and its words for what is wrong."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf

import builders_tfs as tfs
from atalaya_serving.engines.choice import Engines
from builders_serving import echo, running, save

TILES = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for make in (tfs.save_half, tfs.save_network, tfs.save_parsing, tfs.save_echo, tfs.save_words):
        make(root)
    return root


def served_by(models: Path, backend: str) -> Iterator[httpx.Client]:
    with (
        running(models, Engines(), backend=backend) as server,
        httpx.Client(base_url=f"http://{server.rest.address}") as made,
    ):
        yield made


@pytest.fixture(scope="module", params=["openvino", "tensorflow"])
def http(request: pytest.FixtureRequest, models: Path) -> Iterator[httpx.Client]:
    yield from served_by(models, request.param)


@pytest.fixture(scope="module")
def tensorflow(models: Path) -> Iterator[httpx.Client]:
    yield from served_by(models, "tensorflow")


def ask(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(f"/v1/models/{path}", content=body if isinstance(body, (str, bytes)) else json.dumps(body))
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(http: httpx.Client, path: str, body: Any) -> tuple[int, str]:
    answer = http.post(f"/v1/models/{path}", content=body if isinstance(body, (str, bytes)) else json.dumps(body))
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize("path", ["half:predict", "half/versions/1:predict", "half:Predict"])
def test_rows_come_back_as_predictions(http: httpx.Client, path: str) -> None:
    rows = [[0.0, 2.0, 4.0, 6.0], [1, 1, 1, 1]]
    assert ask(http, path, {"instances": rows}) == {"predictions": [[2.0, 3.0, 4.0, 5.0], [2.5, 2.5, 2.5, 2.5]]}
    assert ask(http, path, {"instances": [{"x": row} for row in rows]})["predictions"][1] == [2.5] * 4


def test_columns_come_back_as_outputs(http: httpx.Client) -> None:
    assert ask(http, "half:predict", {"inputs": {"x": [[0, 0, 0, 2]]}}) == {"outputs": [[2.0, 2.0, 2.0, 3.0]]}
    assert ask(http, "half:predict", {"inputs": [[0, 0, 0, 2]]}) == {"outputs": [[2.0, 2.0, 2.0, 3.0]]}


def test_several_tensors_have_names_both_ways(tensorflow: httpx.Client) -> None:
    body = {"signature_name": "both", "instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}, {"a": [0, 0, 0], "b": [1, 0, 0]}]}
    assert ask(tensorflow, "half:predict", body) == {
        "predictions": [
            {"sum": [2.0, 3.0, 4.0], "difference": [0.0, 1.0, 2.0]},
            {"sum": [1.0, 0.0, 0.0], "difference": [-1.0, 0.0, 0.0]},
        ]
    }
    columns = {"signature_name": "both", "inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}}
    assert ask(tensorflow, "half:predict", columns)["outputs"] == {"sum": [[2, 3, 4]], "difference": [[0, 1, 2]]}


def test_an_image_gives_what_tensorflow_gives(http: httpx.Client, models: Path) -> None:
    own = tf.saved_model.load(str(models / "network" / "1")).signatures["serving_default"](tiles=tf.constant(TILES))
    answer = ask(http, "network:predict", {"instances": TILES.tolist()})["predictions"]
    np.testing.assert_allclose(answer, own["probability"].numpy(), atol=0.01)


def test_floats_are_as_short_as_float32_allows(tensorflow: httpx.Client) -> None:
    body = {"signature_name": "float32", "instances": [[0.2, 1e-9]]}
    assert tensorflow.post("/v1/models/echo:predict", json=body).text == '{"predictions":[[0.2,1e-9]]}'


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("bool", [True, False]),
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("int16", [-1, 1]),
        ("int32", [-(2**31), 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("float32", [0.1, -1e30]),
        ("float64", [0.1, 1e300]),
        ("string", ["a", "ü"]),
    ],
)
def test_every_dtype_that_json_carries_travels_both_ways(
    tensorflow: httpx.Client, dtype: str, values: list[Any]
) -> None:
    body = {"signature_name": dtype, "instances": [values, values]}
    assert ask(tensorflow, "echo:predict", body) == {"predictions": [values, values]}


def test_not_a_number_and_infinity_travel(tensorflow: httpx.Client) -> None:
    text = '{"signature_name": "float32", "instances": [[NaN, -Infinity]]}'
    assert "[NaN, -Infinity]" in tensorflow.post("/v1/models/echo:predict", content=text).text


def test_bytes_travel_as_base64(tensorflow: httpx.Client) -> None:
    """Into any string input; out of outputs whose name ends in _bytes."""
    raw = {"b64": base64.b64encode(b"\xff\x00\x80").decode()}
    answer = ask(tensorflow, "words:predict", {"instances": [raw, {"b64": "YQ=="}, "plain"]})
    assert answer["predictions"] == [
        {"same_bytes": raw, "length": 3},
        {"same_bytes": {"b64": "YQ=="}, "length": 1},
        {"same_bytes": {"b64": base64.b64encode(b"plain").decode()}, "length": 5},
    ]
    assert ask(tensorflow, "words:predict", {"inputs": [raw]})["outputs"] == {"same_bytes": [raw], "length": [3]}


def test_bytes_travel_over_openvino_too(tmp_path: Path) -> None:
    save(echo("BYTES", 2), tmp_path, "words")
    for http in served_by(tmp_path, "openvino"):
        answer = ask(http, "words:predict", {"instances": [[{"b64": "YQ=="}, "ü"]]})
        assert answer["predictions"] == [["a", "ü"]]


def test_classify_and_regress_take_examples(tensorflow: httpx.Client) -> None:
    examples = [{"x": [0.0, 1.0]}, {"x": [2.5, 0.5]}]
    rows = ask(tensorflow, "parsing:classify", {"signature_name": "labels", "examples": examples})["results"]
    softmax = tf.nn.softmax([[0.0, 1.0], [2.5, 0.5]]).numpy()
    assert [[label for label, _ in row] for row in rows] == [["low", "high"]] * 2
    np.testing.assert_allclose([[score for _, score in row] for row in rows], softmax, rtol=1e-6)
    body = {"signature_name": "value", "context": {"x": [2.0, 3.0]}, "examples": [{}, {"x": [0.5, 0.25]}]}
    assert ask(tensorflow, "parsing:regress", body) == {"results": [5.0, 0.75]}


def test_examples_reach_a_model_that_does_not_parse_them(http: httpx.Client, models: Path) -> None:
    examples = [{"tiles": {"b64": base64.b64encode(tile.tobytes()).decode()}} for tile in TILES]
    answer = ask(http, "network:regress", {"signature_name": "regress", "examples": examples})["results"]
    own = tf.saved_model.load(str(models / "network" / "1")).signatures["serving_default"](tiles=tf.constant(TILES))
    np.testing.assert_allclose(answer, own["probability"].numpy().ravel(), atol=0.01)


@pytest.mark.parametrize("path", ["half", "half/versions/1"])
def test_status_is_told(http: httpx.Client, path: str) -> None:
    assert http.get(f"/v1/models/{path}").json() == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


def test_metadata_is_told(http: httpx.Client) -> None:
    told = http.get("/v1/models/network/metadata").json()
    assert told["model_spec"] == {"name": "network", "signature_name": "", "version": "1"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    tiles = signature["inputs"]["tiles"]
    assert tiles["dtype"] == "DT_UINT8"
    assert [dim["size"] for dim in tiles["tensor_shape"]["dim"]] == ["-1", "16", "16", "1"]


REFUSALS = [
    pytest.param(
        "nobody:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nobody)", id="model"
    ),
    pytest.param(
        "half/versions/3:predict",
        {"instances": [1]},
        404,
        "Servable not found for request: Specific(half, 3)",
        id="version",
    ),
    pytest.param(
        "half/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x", id="label"
    ),
    pytest.param(
        "half:predict",
        {"signature_name": "no", "instances": [1]},
        400,
        'Serving signature name: "no" not found in signature def',
        id="signature",
    ),
    pytest.param(
        "half:predict", {"signature_name": 1}, 400, "'signature_name' key must be a string value.", id="signature name"
    ),
    pytest.param("half:predict", b"", 400, "JSON Parse error: The document is empty", id="empty"),
    pytest.param("half:predict", b"{", 400, "JSON Parse error: ", id="no json"),
    pytest.param("half:predict", [1], 400, "Is not object", id="no object"),
    pytest.param("half:predict", {}, 400, "Missing 'inputs' or 'instances' key", id="no inputs"),
    pytest.param(
        "half:predict", {"inputs": 1, "instances": [1]}, 400, "expecting only one of 'inputs' or 'instances'", id="both"
    ),
    pytest.param("half:predict", {"instances": 1}, 400, "Excepting 'instances' to be an list/array", id="no list"),
    pytest.param("half:predict", {"instances": []}, 400, "No values in 'instances' array", id="no rows"),
    pytest.param(
        "half:predict",
        {"instances": [["a", 1, 2, 3]]},
        400,
        'JSON Value: "a" Type: String is not of expected type: float',
        id="string",
    ),
    pytest.param(
        "half:predict",
        {"instances": [[None, 1, 2, 3]]},
        400,
        "JSON Value: null Type: Null is not of expected type: float",
        id="null",
    ),
    pytest.param(
        "half:predict",
        {"instances": [[1, 2], [1]]},
        400,
        "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        id="ragged",
    ),
    pytest.param(
        "half:predict",
        {"instances": [[[1, 2]], [[1], [2]]]},
        400,
        "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [1,2] but got: [2,1]",
        id="shapes",
    ),
    pytest.param(
        "half:predict",
        {"instances": [[1, [2]]]},
        400,
        "Encountered list at unexpected level: 1 expected < 1",
        id="depth",
    ),
    pytest.param(
        "half:predict",
        {"inputs": [[1, 2], [3]]},
        400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        id="size",
    ),
    pytest.param(
        "half:predict",
        {"instances": [[1, 2, 3, 16777217]]},
        400,
        "Cannot convert JSON value: 16777217 to float without loss of precision.",
        id="lossy",
    ),
    pytest.param(
        "half:predict", {"instances": [{"z": 1}]}, 400, "JSON object: does not have named input: z", id="name"
    ),
    pytest.param("half:predict", {"inputs": {"z": 1}}, 400, "Missing named input: x in 'inputs' object.", id="column"),
    pytest.param(
        "half:predict",
        {"instances": [{"x": [1, 2, 3, 4]}, [1]]},
        400,
        "Expecting object but got list at item 1 of input list",
        id="mixed",
    ),
    pytest.param("half:predict", {"instances": [[1, 2]]}, 400, "shape [-1, 4]", id="shape"),
    pytest.param(
        "half:explain", {"instances": [[1, 2]]}, 400, "Malformed request: POST /v1/models/half:explain", id="method"
    ),
    pytest.param("half:classify", {}, 400, "key 'examples' is expected and was not found", id="no examples"),
    pytest.param("half:classify", {"examples": []}, 400, "'examples' value is an empty array", id="empty examples"),
    pytest.param(
        "half:classify", {"examples": [1]}, 400, "Example must be JSON object but got JSON Number", id="example"
    ),
    pytest.param(
        "half:classify",
        {"examples": [{"x": [1.0, 2]}]},
        400,
        "Unexpected element type in feature: x expecting type: float",
        id="feature",
    ),
    pytest.param(
        "half:classify",
        {"examples": [{"x": None}]},
        400,
        "Feature: x has element with unexpected JSON type: Null",
        id="null feature",
    ),
    pytest.param(
        "half:classify",
        {"examples": [{"x": [1.0]}]},
        400,
        "signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict",
        id="kind",
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSALS)
def test_what_is_wrong_is_told_in_tensorflow_servings_words(
    http: httpx.Client, path: str, body: Any, status: int, message: str
) -> None:
    told = refusal(http, path, body)
    assert told[0] == status
    assert message in told[1]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("/v1/models/half/versions/4", 404, "Could not find version 4 of model half"),
        ("/v1/models/half/versions/99999999999999999999", 400, "to numeric"),
        ("/v1/models/half:predict", 400, "Malformed request: GET /v1/models/half:predict"),
        ("/v1/none", 400, "Malformed request: GET /v1/none"),
        ("/v1/models/nobody/metadata", 404, "Servable not found for request: Latest(nobody)"),
    ],
)
def test_other_paths_are_refused(http: httpx.Client, path: str, status: int, message: str) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("value", "message"), [({"b64": "!"}, "Unable to base64 decode"), ({"b64": 1}, "base64"), (1, "string")]
)
def test_a_string_that_is_none_is_refused(tensorflow: httpx.Client, value: Any, message: str) -> None:
    status, told = refusal(tensorflow, "words:predict", {"inputs": [value]})
    assert status == 400
    assert message in told


def test_a_body_beyond_the_limit_is_refused(models: Path) -> None:
    with running(models, Engines(), max_message_bytes=1000) as server:
        answer = httpx.post(f"http://{server.rest.address}/v1/models/half:predict", content=b" " * 2000)
    assert answer.status_code == 413
