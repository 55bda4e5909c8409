"""Unmodified TensorFlow Serving clients over gRPC against both engines, checked against TensorFlow's own answers."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, inference_pb2

import builders_tfs as tfs
from atalaya_serving.engines.choice import Engines
from atalaya_serving.tfs import grpc_service, tensors
from builders_serving import echo, running, save

ROOT = Path(__file__).parents[2]
TILES = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 1), np.uint8)
CODES = grpc.StatusCode


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for write in (tfs.save_half, tfs.save_network, tfs.save_parsing, tfs.save_echo):
        write(root)
    return root


def served_by(models: Path, backend: str) -> Iterator[tfs.Stubs]:
    with running(models, Engines(), backend=backend) as server, grpc.insecure_channel(server.grpc.address) as channel:
        yield tfs.Stubs(channel)


@pytest.fixture(scope="module", params=["openvino", "tensorflow"])
def stubs(request: pytest.FixtureRequest, models: Path) -> Iterator[tfs.Stubs]:
    """Models that both engines run."""
    yield from served_by(models, request.param)


@pytest.fixture(scope="module")
def tensorflow(models: Path) -> Iterator[tfs.Stubs]:
    """What only TensorFlow runs: several signatures, graphs that parse Examples."""
    yield from served_by(models, "tensorflow")


def own(models: Path, model: str, signature: str = "serving_default", **inputs: Any) -> dict[str, np.ndarray]:
    """TensorFlow's own answer, in this process."""
    loaded = tf.saved_model.load(str(models / model / "1"))
    given = {name: tf.constant(value) for name, value in inputs.items()}
    return {name: value.numpy() for name, value in loaded.signatures[signature](**given).items()}


def refusal(call: Any, *given: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*given)
    return caught.value.code(), caught.value.details()


def test_predict_gives_what_tensorflow_gives(stubs: tfs.Stubs, models: Path) -> None:
    assert np.array_equal(stubs.outputs("half", x=tfs.ROWS)["y"], own(models, "half", x=tfs.ROWS)["y"])
    ours, theirs = stubs.outputs("network", tiles=TILES), own(models, "network", tiles=TILES)
    assert ours["probability"].shape == (5, 1)
    np.testing.assert_allclose(ours["probability"], theirs["probability"], atol=0.01)


def test_the_answer_names_model_version_and_signature(stubs: tfs.Stubs) -> None:
    spec = stubs.predict(tfs.predict_request("half", x=tfs.ROWS)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half", 1, "serving_default")


def test_answers_have_typed_values_that_clients_read(stubs: tfs.Stubs) -> None:
    proto = stubs.predict(tfs.predict_request("half", x=np.zeros((1, 4), np.float32))).outputs["y"]
    assert list(proto.float_val) == [2.0, 2.0, 2.0, 2.0]
    assert proto.tensor_content == b""


def test_typed_values_are_read_and_the_last_one_repeats(stubs: tfs.Stubs) -> None:
    request = tfs.predict_request("half", x=tfs.ROWS)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(8.0, shape=[2, 4]))
    assert not request.inputs["x"].tensor_content
    assert tfs.arrays(stubs.predict(request))["y"].tolist() == [[6.0] * 4] * 2


def test_an_output_filter_chooses_outputs(tensorflow: tfs.Stubs) -> None:
    request = tfs.predict_request("half", signature="both", a=np.ones((1, 3), "f4"), b=np.ones((1, 3), "f4"))
    request.output_filter.append("difference")
    assert {name: value.tolist() for name, value in tfs.arrays(tensorflow.predict(request)).items()} == {
        "difference": [[0.0, 0.0, 0.0]]
    }


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16",
     "float32", "float64", "string"],
)  # fmt: skip
def test_every_dtype_travels_both_ways(tensorflow: tfs.Stubs, dtype: str) -> None:
    kind = tf.dtypes.as_dtype(dtype)
    values = np.array([["a", "ü"], [b"\xff\x00", ""]], object) if dtype == "string" else [[0, 1], [1, 1]]
    given = tf.constant(values, kind).numpy() if dtype == "string" else np.array(values).astype(kind.as_numpy_dtype)
    answer = tfs.arrays(tensorflow.predict(tfs.predict_request("echo", signature=dtype, x=given)))["y"]
    assert answer.dtype == given.dtype
    assert np.array_equal(answer, given)


def test_classify_and_regress_parse_examples_as_tensorflow_does(tensorflow: tfs.Stubs, models: Path) -> None:
    examples = [tfs.example(x=[0.0, 1.0]), tfs.example(x=[3.0, 0.5])]
    serialized = np.array([one.SerializeToString() for one in examples], object)
    labels, value = (
        own(models, "parsing", "labels", inputs=serialized),
        own(models, "parsing", "value", inputs=serialized),
    )
    told = tensorflow.prediction.Classify(tfs.classify_request("parsing", examples, signature="labels"), timeout=30)
    assert [[(one.label, one.score) for one in row.classes] for row in told.result.classifications] == [
        [(label.decode(), float(score)) for label, score in zip(*row, strict=True)]
        for row in zip(labels["classes"], labels["scores"], strict=True)
    ]
    assert (told.model_spec.signature_name, told.model_spec.version.value) == ("labels", 1)
    regressed = tensorflow.prediction.Regress(tfs.regress_request("parsing", examples, signature="value"), timeout=30)
    assert [one.value for one in regressed.result.regressions] == value["outputs"].ravel().tolist()
    both = tensorflow.prediction.MultiInference(
        tfs.multi_request("parsing", examples, labels="classify", value="regress"), timeout=30
    )
    assert both.results[0].classification_result == told.result
    assert both.results[1].regression_result == regressed.result
    assert [one.model_spec.signature_name for one in both.results] == ["labels", "value"]


def test_a_context_is_merged_into_every_example(tensorflow: tfs.Stubs) -> None:
    request = tfs.regress_request("parsing", [], signature="value")
    request.input.example_list_with_context.context.CopyFrom(tfs.example(x=[2.0, 3.0]))
    request.input.example_list_with_context.examples.extend([tf.train.Example(), tf.train.Example()])
    answer = tensorflow.prediction.Regress(request, timeout=30)
    assert [one.value for one in answer.result.regressions] == [5.0, 5.0]


def test_examples_reach_a_model_that_does_not_parse_them(stubs: tfs.Stubs, models: Path) -> None:
    """Raw pixels in a bytes feature, named as the input; the server adds the signature `regress`."""
    examples = [tfs.example(tiles=tile.tobytes()) for tile in TILES]
    answer = stubs.prediction.Regress(tfs.regress_request("network", examples, signature="regress"), timeout=30)
    theirs = own(models, "network", tiles=TILES)["probability"].ravel()
    np.testing.assert_allclose([one.value for one in answer.result.regressions], theirs, atol=0.01)
    floats = [tfs.example(x=[0.0, 2.0, 4.0, 6.0])]
    classified = stubs.prediction.Classify(tfs.classify_request("half", floats, signature="classify"), timeout=30)
    assert [one.score for one in classified.result.classifications[0].classes] == [2.0, 3.0, 4.0, 5.0]


def test_the_shipped_model_classifies_with_the_labels_of_its_manifest() -> None:
    golden = np.load(ROOT / "model-repo" / "haiti-damage" / "1" / "golden.npz")
    tiles, probabilities = golden["inputs"][:4], golden["outputs"][:4].ravel()
    examples = [tfs.example(tiles=tile.tobytes()) for tile in tiles]
    with (
        running(ROOT / "model-repo", Engines()) as server,
        grpc.insecure_channel(server.grpc.address) as channel,
    ):
        stubs = tfs.Stubs(channel)
        predicted = stubs.outputs("haiti-damage", tiles=tiles)
        answer = stubs.prediction.MultiInference(
            tfs.multi_request("haiti-damage", examples, classify="classify", regress="regress"), timeout=30
        )
    (output,) = predicted.values()
    np.testing.assert_allclose(output.ravel(), probabilities, atol=0.05)
    rows = [
        {one.label: one.score for one in row.classes} for row in answer.results[0].classification_result.classifications
    ]
    np.testing.assert_allclose([row["damaged"] for row in rows], output.ravel(), atol=1e-6)
    np.testing.assert_allclose([sum(row.values()) for row in rows], 1.0, atol=1e-6)
    regressions = [one.value for one in answer.results[1].regression_result.regressions]
    np.testing.assert_allclose(regressions, output.ravel(), atol=1e-6)


def test_metadata_tells_the_signatures(stubs: tfs.Stubs) -> None:
    told = stubs.metadata("network").signature_def["serving_default"]
    assert told.method_name == "tensorflow/serving/predict"
    assert told.inputs["tiles"].dtype == tf.uint8.as_datatype_enum
    assert [dim.size for dim in told.inputs["tiles"].tensor_shape.dim] == [-1, 16, 16, 1]
    assert told.outputs["probability"].dtype == tf.float32.as_datatype_enum


def test_metadata_of_a_savedmodel_is_that_of_its_file(tensorflow: tfs.Stubs, models: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((models / "parsing" / "1" / "saved_model.pb").read_bytes())
    theirs, ours = saved.meta_graphs[0].signature_def, tensorflow.metadata("parsing").signature_def
    assert set(theirs) <= set(ours)
    for name, signature in theirs.items():
        assert ours[name].method_name == signature.method_name
        for mine, other in ((ours[name].inputs, signature.inputs), (ours[name].outputs, signature.outputs)):
            assert {key: (one.name, one.dtype) for key, one in mine.items()} == {
                key: (one.name, one.dtype) for key, one in other.items()
            }


def test_status_tells_the_versions(stubs: tfs.Stubs) -> None:
    assert stubs.states("half") == {1: "AVAILABLE"}
    assert stubs.status("half", version=1).model_version_status[0].status.error_code == 0


@pytest.mark.parametrize("way", ["short way", "ordinary way"])
def test_large_requests_of_every_form_are_answered_and_refusals_counted(tmp_path: Path, way: str) -> None:
    tfs.save_half(tmp_path)
    rows = np.random.default_rng(0).random((5000, 4), np.float32)
    with running(tmp_path, Engines(), fast=way == "short way") as server:
        assert server.grpc is not None
        with grpc.insecure_channel(server.grpc.address) as channel:
            stubs = tfs.Stubs(channel)
            typed = tfs.predict_request("half", x=rows)
            typed.inputs["x"].ClearField("tensor_content")
            typed.inputs["x"].float_val.extend(rows.ravel().tolist())
            for request in (tfs.predict_request("half", x=rows), typed):
                np.testing.assert_allclose(tfs.arrays(stubs.predict(request))["y"], rows / 2 + 2, rtol=1e-2)
            typed.inputs["x"].float_val.append(1.0)
            assert refusal(stubs.predict, typed) == (CODES.INVALID_ARGUMENT, "tensor parsing error: x")
            broken = tfs.predict_request("half", x=rows)
            broken.inputs["x"].tensor_content = b"123" * 20_000
            assert refusal(stubs.predict, broken) == (CODES.INVALID_ARGUMENT, "tensor parsing error: x")
            raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            assert refusal(raw, b"\xff\xff")[0] == CODES.INVALID_ARGUMENT
    totals = server.dataplane.refused.snapshot().requests
    assert totals["tfs-grpc", "INVALID_ARGUMENT"] >= (2 if way == "short way" else 1)


def test_predict_takes_the_short_way_and_one_callers_strings_keep_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(echo("BYTES"), tmp_path, "strings")
    save(echo(), tmp_path, "m")
    entered, held, original = threading.Event(), threading.Event(), tensors._strings

    def slow(*given: Any) -> Any:
        entered.set()
        held.wait(120)
        return original(*given)

    monkeypatch.setattr(tensors, "_strings", slow)
    monkeypatch.setattr(grpc_service, "_answered", lambda *_: pytest.fail)
    words = np.full((10_000, 4), b"ab", object)
    with running(tmp_path) as server, grpc.insecure_channel(server.grpc.address) as channel:
        stubs = tfs.Stubs(channel)
        waiting = stubs.prediction.Predict.future(tfs.predict_request("strings", x=words), timeout=30)
        assert entered.wait(60)
        for _ in range(3):
            assert stubs.outputs("m", x=tfs.ROWS)["y"].tolist() == tfs.ROWS.tolist()
        assert not waiting.done()
        held.set()
        assert tfs.arrays(waiting.result())["x"].tolist() == words.tolist()


PREDICT_REFUSALS = [
    pytest.param({"model": "nobody"}, CODES.NOT_FOUND, "Servable not found for request: Latest(nobody)", id="model"),
    pytest.param(
        {"model": "half", "version": 7},
        CODES.NOT_FOUND,
        "Servable not found for request: Specific(half, 7)",
        id="version",
    ),
    pytest.param(
        {"model": "half", "label": "stable"},
        CODES.INVALID_ARGUMENT,
        "Unrecognized servable version label: stable",
        id="label",
    ),
    pytest.param({"model": ""}, CODES.INVALID_ARGUMENT, "ModelSpec has no name specified.", id="no name"),
    pytest.param(
        {"model": "half", "signature": "none"},
        CODES.FAILED_PRECONDITION,
        'Serving signature key "none" not found.',
        id="signature",
    ),
    pytest.param(
        {"model": "half", "inputs": {}},
        CODES.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        id="no input",
    ),
    pytest.param(
        {"model": "half", "inputs": {"x": tfs.ROWS, "z": tfs.ROWS}},
        CODES.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
        id="one too many",
    ),
    pytest.param(
        {"model": "half", "inputs": {"z": tfs.ROWS}}, CODES.INVALID_ARGUMENT, "Signature input alias: x(", id="name"
    ),
    pytest.param(
        {"model": "half", "inputs": {"x": [[1, 2, 3, 4]]}},
        CODES.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int32 is provided",
        id="dtype",
    ),
    pytest.param({"model": "half", "inputs": {"x": [[1.0, 2.0]]}}, CODES.INVALID_ARGUMENT, "shape [-1, 4]", id="shape"),
    pytest.param(
        {"model": "half", "outputs": ["no"]},
        CODES.INVALID_ARGUMENT,
        "output tensor alias not found in signature: no Outputs expected to be in the set {y}.",
        id="output",
    ),
    pytest.param(
        {"model": "half", "outputs": ["y", "y"]},
        CODES.INVALID_ARGUMENT,
        "duplicate output tensor alias: y",
        id="output twice",
    ),
]


@pytest.mark.parametrize(("given", "code", "message"), PREDICT_REFUSALS)
def test_predict_refuses_in_tensorflow_servings_words(
    stubs: tfs.Stubs, given: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    given = dict(given)
    outputs, inputs = given.pop("outputs", []), given.pop("inputs", {"x": tfs.ROWS})
    request = tfs.predict_request(given.pop("model"), **given, **inputs)
    request.output_filter.extend(outputs)
    told = refusal(stubs.predict, request)
    assert told[0] == code
    assert told[1].startswith(message) or ("shape" in message and message in told[1])


def test_a_tensor_that_is_damaged_is_refused(stubs: tfs.Stubs) -> None:
    request = tfs.predict_request("half", x=tfs.ROWS)
    for change in ({"tensor_content": b"123"}, {"dtype": tf.complex64.as_datatype_enum}):
        damaged = type(request)()
        damaged.CopyFrom(request)
        damaged.inputs["x"].MergeFrom(type(damaged.inputs["x"])(**change))
        assert refusal(stubs.predict, damaged) == (CODES.INVALID_ARGUMENT, "tensor parsing error: x")
    huge = type(request)()
    huge.CopyFrom(request)
    huge.inputs["x"].CopyFrom(tf.make_tensor_proto(1.0, shape=[1, 4]))
    huge.inputs["x"].tensor_shape.dim[0].size = 2**40
    assert refusal(stubs.predict, huge) == (CODES.INVALID_ARGUMENT, "tensor parsing error: x")


def test_examples_are_refused_in_tensorflows_words(stubs: tfs.Stubs) -> None:
    classify, regress = stubs.prediction.Classify, stubs.prediction.Regress
    fine = [tfs.example(x=[0.0, 1.0, 2.0, 3.0])]
    kind = "tensorflow/serving"
    was = f"Expected classification signature method_name to be {kind}/classify. Was: {kind}/predict"
    assert refusal(classify, tfs.classify_request("half", fine)) == (CODES.INVALID_ARGUMENT, was)
    assert refusal(regress, tfs.regress_request("half", fine, signature="no")) == (
        CODES.INVALID_ARGUMENT, "No signature was found with the name: no"
    )  # fmt: skip
    refused = {
        "Input is empty.": [],
        "Name: <unknown>, Feature: x (data type: float) is required but could not be found.": [tfs.example(z=1.0)],
        "Key: x.  Data types don't match. Data type: string but expected type: float": [tfs.example(x=b"abc")],
        "Key: x, Index: 0.  Number of float values != expected.  Values size: 1 but output shape: [4]": [
            tfs.example(x=1.0)
        ],
    }
    for message, examples in refused.items():
        assert refusal(classify, tfs.classify_request("half", examples, signature="classify")) == (
            CODES.INVALID_ARGUMENT, message
        )  # fmt: skip


def test_multi_inference_is_refused_in_tensorflow_servings_words(tensorflow: tfs.Stubs) -> None:
    call, examples = tensorflow.prediction.MultiInference, [tfs.example(x=[0.0, 1.0])]
    twice = tfs.multi_request("parsing", examples, labels="classify")
    twice.tasks.append(twice.tasks[0])
    other = tfs.multi_request("parsing", examples, labels="classify", value="regress")
    other.tasks[1].model_spec.name = "half"
    assert refusal(call, twice) == (CODES.INVALID_ARGUMENT, "Duplicate evaluation of signature: labels")
    assert refusal(call, other) == (
        CODES.INVALID_ARGUMENT, "All ModelSpecs in a MultiInferenceRequest must access the same model name."
    )  # fmt: skip
    assert refusal(call, tfs.multi_request("parsing", examples, labels="predict")) == (
        CODES.UNIMPLEMENTED, "Unsupported signature method_name: tensorflow/serving/predict"
    )  # fmt: skip
    assert refusal(call, tfs.multi_request("parsing", examples, no="classify")) == (
        CODES.INVALID_ARGUMENT, "Requested signature not found in model graph: no"
    )  # fmt: skip
    assert call(inference_pb2.MultiInferenceRequest(), timeout=10) == inference_pb2.MultiInferenceResponse()


def test_metadata_and_status_are_refused_in_tensorflow_servings_words(stubs: tfs.Stubs) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    ask = stubs.prediction.GetModelMetadata
    assert refusal(ask, request) == (CODES.INVALID_ARGUMENT, "Missing ModelSpec")
    request.model_spec.name = "half"
    told = "GetModelMetadataRequest must specify at least one metadata_field"
    assert refusal(ask, request) == (CODES.INVALID_ARGUMENT, told)
    request.metadata_field.append("weights")
    assert refusal(ask, request) == (CODES.INVALID_ARGUMENT, "Metadata field weights is not supported")
    request.metadata_field[0], request.model_spec.name = "signature_def", "nobody"
    assert refusal(ask, request) == (CODES.NOT_FOUND, "Servable not found for request: Latest(nobody)")
    assert refusal(stubs.status, "nobody") == (CODES.NOT_FOUND, "Could not find any versions of model nobody")
    with pytest.raises(grpc.RpcError) as caught:
        stubs.status("half", version=9)
    assert caught.value.details() == "Could not find version 9 of model half"
