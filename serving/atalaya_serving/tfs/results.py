"""What a signature's tensors mean: classifications and regressions, checked as TensorFlow Serving does. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from atalaya_serving.datatypes import Tensor
from atalaya_serving.errors import InvalidRequest, PreconditionFailed
from atalaya_serving.tfs.messages import ClassificationResult, RegressionResult
from atalaya_serving.tfs.signatures import (
    CLASSES,
    CLASSIFY_INPUTS,
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    REGRESSIONS,
    SCORES,
    ServedSignature,
)


def check_signature(signature: ServedSignature, method: str) -> None:
    """Hold a signature against the call. Raises InvalidRequest, PreconditionFailed in TensorFlow Serving's words."""
    kind = "classification" if method == CLASSIFY_METHOD else "regression"
    if signature.method != method:
        raise InvalidRequest(f"Expected {kind} signature method_name to be {method}. Was: {signature.method}")
    if len(signature.inputs) != 1:
        raise InvalidRequest("Expected one input Tensor.")
    if signature.inputs[0].name != CLASSIFY_INPUTS:
        raise PreconditionFailed(f"No {kind} inputs found in SignatureDef: {signature.name}")
    names = {spec.name for spec in signature.outputs}
    if method == REGRESS_METHOD:
        if len(names) != 1:
            raise InvalidRequest("Expected one output Tensor.")
        if REGRESSIONS not in names:
            raise PreconditionFailed(f"No regression outputs found in SignatureDef: {signature.name}")
    elif len(names) not in (1, 2):
        raise InvalidRequest(f"Expected one or two output Tensors, found {len(names)}")
    elif not names & {CLASSES, SCORES}:
        raise PreconditionFailed(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}".'
            f" Signature was: {signature.name}"
        )


def derived_outputs(signature: ServedSignature, output: Tensor) -> dict[str, Tensor]:
    """The outputs of a derived signature, from the one output of the model."""
    if signature.method == REGRESS_METHOD:
        return {REGRESSIONS: output}
    scores = output
    if output.ndim == 1 or output.shape[1] == 1:
        probability = output.reshape(-1)
        columns = [1 - probability, probability] if signature.positive == 1 else [probability, 1 - probability]
        scores = np.stack(columns, axis=1)
    made = {SCORES: scores}
    if signature.labels:
        row = np.empty(len(signature.labels), object)
        row[:] = [label.encode() for label in signature.labels]
        made[CLASSES] = np.tile(row, (len(scores), 1))
    return made


def classification(outputs: Mapping[str, Tensor], count: int) -> Any:
    """A ClassificationResult of the tensors `classes` and `scores`, or one of them. Raises InvalidRequest."""
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, tensor, kind in ((CLASSES, classes, "O"), (SCORES, scores, "f")):
        if tensor is not None:
            _check_classes(name, tensor, kind, count)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidRequest(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = ClassificationResult()
    labels = classes.tolist() if classes is not None else None
    values = scores.tolist() if scores is not None else None
    for row in range(count):
        made = result.classifications.add().classes
        for column in range(len((labels or values or [[]])[row])):
            one = made.add()
            if labels is not None:
                one.label = labels[row][column].decode("utf-8", "replace")
            if values is not None:
                one.score = values[row][column]
    return result


def regression(outputs: Mapping[str, Tensor], count: int) -> Any:
    """A RegressionResult of the tensor `outputs`. Raises InvalidRequest."""
    tensor = outputs[REGRESSIONS]
    if not (tensor.ndim == 1 or (tensor.ndim == 2 and tensor.shape[1] == 1)):
        raise InvalidRequest(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got"
            f" [{','.join(map(str, tensor.shape))}]"
        )
    if tensor.shape[0] != count:
        raise InvalidRequest(f"Input batch size did not match output batch size: {count} vs. {tensor.shape[0]}")
    if tensor.dtype != np.float32:
        raise InvalidRequest(f"Expected output Tensor of DT_FLOAT.  Got: {tensor.dtype}")
    result = RegressionResult()
    for value in tensor.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result


def _check_classes(name: str, tensor: Tensor, kind: str, count: int) -> None:
    if tensor.ndim != 2:
        raise InvalidRequest(
            f"Expected Tensor shape: [batch_size num_classes] but got [{','.join(map(str, tensor.shape))}]"
        )
    if tensor.dtype.kind != kind or (kind == "f" and tensor.dtype != np.float32):
        expected = "DT_STRING" if kind == "O" else "DT_FLOAT"
        raise InvalidRequest(f"Expected {name} Tensor of {expected}. Got: {tensor.dtype}")
    if tensor.shape[0] != count:
        raise InvalidRequest(f"Expected {name} output batch size of {count}. Got: {tensor.shape[0]}")
