"""Builders for tests of the TensorFlow Serving API: small SavedModels with every kind of signature, and its clients.

Imports tensorflow and the unmodified `tensorflow-serving-api`, as a client does.
"""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


class Stubs:
    """The unmodified stubs on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        return self.prediction.Predict(request, timeout=30)

    def outputs(self, model: str, **inputs: Any) -> dict[str, np.ndarray]:
        return arrays(self.predict(predict_request(model, **inputs)))

    def status(self, model: str, **spec: Any) -> get_model_status_pb2.GetModelStatusResponse:
        request = get_model_status_pb2.GetModelStatusRequest()
        fill(request.model_spec, model, **spec)
        return self.model.GetModelStatus(request, timeout=30)

    def states(self, model: str) -> dict[int, str]:
        names = get_model_status_pb2.ModelVersionStatus.State
        return {one.version: names.Name(one.state) for one in self.status(model).model_version_status}

    def metadata(self, model: str) -> get_model_metadata_pb2.SignatureDefMap:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        fill(request.model_spec, model)
        told = get_model_metadata_pb2.SignatureDefMap()
        assert self.prediction.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(told)
        return told

    def reload(self, config: str) -> model_management_pb2.ReloadConfigResponse:
        from google.protobuf import text_format

        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(config, request.config)
        return self.model.HandleReloadConfigRequest(request, timeout=60)


def fill(spec: Any, model: str, version: int | None = None, label: str = "", signature: str = "") -> None:
    """Fill a ModelSpec."""
    spec.name, spec.signature_name = model, signature
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label


def predict_request(
    model: str, /, version: int | None = None, label: str = "", signature: str = "", **inputs: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    fill(request.model_spec, model, version, label, signature)
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    return request


def arrays(response: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def example(**features: Any) -> tf.train.Example:
    """An Example of float, int or bytes features."""
    made = tf.train.Example()
    for name, values in features.items():
        listed = values if isinstance(values, list) else [values]
        kinds = {float: "float_list", int: "int64_list", bytes: "bytes_list"}
        getattr(made.features.feature[name], kinds[type(listed[0])]).value.extend(listed)
    return made


def classify_request(model: str, examples: list[Any], **spec: Any) -> classification_pb2.ClassificationRequest:
    request = classification_pb2.ClassificationRequest()
    fill(request.model_spec, model, **spec)
    request.input.example_list.examples.extend(examples)
    return request


def regress_request(model: str, examples: list[Any], **spec: Any) -> regression_pb2.RegressionRequest:
    request = regression_pb2.RegressionRequest()
    fill(request.model_spec, model, **spec)
    request.input.example_list.examples.extend(examples)
    return request


def multi_request(model: str, examples: list[Any], **tasks: str) -> inference_pb2.MultiInferenceRequest:
    """One task a signature: signature="classify" or "regress"."""
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks.items():
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        fill(task.model_spec, model, signature=signature)
    request.input.example_list.examples.extend(examples)
    return request


def save_half(root: Path, name: str = "half", version: int = 1, plus: float = 2.0) -> Path:
    """y = x / 2 + plus over [-1, 4]; the signature `both` gives sum and difference of a and b."""

    class Half(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
        def half(self, x: Any) -> Any:
            return {"y": x / 2.0 + plus}

        @tf.function(
            input_signature=[tf.TensorSpec([None, 3], tf.float32, "a"), tf.TensorSpec([None, 3], tf.float32, "b")]
        )
        def both(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "difference": a - b}

    module = Half()
    folder = root / name / str(version)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.half, "both": module.both})
    return folder


def save_network(root: Path, name: str = "network") -> Path:
    """A small convolutional network with seeded weights: uint8 [-1, 16, 16, 1] to a probability [-1, 1]."""
    rng = np.random.default_rng(7)

    class Network(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(0, 0.3, (3, 3, 1, 8)).astype(np.float32))
            self.dense = tf.Variable(rng.normal(0, 0.3, (8, 1)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 1], tf.uint8, "tiles")])
        def run(self, tiles: Any) -> Any:
            scaled = tf.cast(tiles, tf.float32) / 255.0
            features = tf.nn.relu(tf.nn.conv2d(scaled, self.kernel, 2, "SAME"))
            return {"probability": tf.sigmoid(tf.reduce_mean(features, [1, 2]) @ self.dense)}

    module = Network()
    folder = root / name / "1"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.run})
    return folder


def save_parsing(root: Path, name: str = "parsing") -> Path:
    """As exported in TensorFlow 1: signatures that parse Examples (feature x, 2 floats), with their method names."""
    v1 = tf.compat.v1
    utils = v1.saved_model.signature_def_utils
    folder = root / name / "1"
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "examples")
        x = v1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]
        scores = tf.nn.softmax(x)
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        value = tf.reduce_sum(x, axis=1, keepdims=True)
        info = v1.saved_model.build_tensor_info
        default = utils.build_signature_def(
            {"inputs": info(serialized)}, {"scores": info(scores)}, "tensorflow/serving/predict"
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": default,
                "labels": utils.classification_signature_def(serialized, classes, scores),
                "value": utils.regression_signature_def(serialized, value),
            },
        )
        builder.save()
    return folder


def save_echo(root: Path, name: str = "echo") -> Path:
    """One signature a dtype, named as it, x to y over [-1, 2]."""

    class Echo(tf.Module):
        pass

    module, signatures = Echo(), {}
    for dtype in (
        tf.bool, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.int8, tf.int16, tf.int32, tf.int64, tf.float16,
        tf.bfloat16, tf.float32, tf.float64, tf.string,
    ):  # fmt: skip
        spec = tf.TensorSpec([None, 2], dtype, "x")
        signatures[dtype.name] = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec])
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(root / name / "1"), signatures=signatures)
    return root / name / "1"


def save_words(root: Path, name: str = "words") -> Path:
    """Strings [-1] to themselves, in an output named so that REST sends base64, and their lengths."""

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])
        def run(self, words: Any) -> Any:
            return {"same_bytes": tf.identity(words), "length": tf.strings.length(words)}

    module = Words()
    tf.saved_model.save(module, str(root / name / "1"), signatures={"serving_default": module.run})
    return root / name / "1"
