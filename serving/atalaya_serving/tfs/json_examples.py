"""Classify's and Regress' JSON: examples as objects of features in, labels with scores or values out. Pure."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from atalaya_serving import json_text
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tfs.json_tensors import as_bytes, is_base64, json_type, signature_name, told
from atalaya_serving.tfs.tensors import tf_name

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_request(request: Any, raw: Mapping[str, Any]) -> None:
    """Fill a ClassificationRequest or RegressionRequest. Raises InvalidRequest."""
    request.model_spec.signature_name = signature_name(raw)
    if "examples" not in raw:
        raise InvalidRequest(
            f"JSON Value: {told(raw)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = raw["examples"]
    if not isinstance(examples, list):
        raise InvalidRequest(f"JSON Value: {told(raw)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidRequest(f"JSON Value: {told(raw)} 'examples' value is an empty array")
    given = request.input.example_list
    if "context" in raw:
        given = request.input.example_list_with_context
        _fill_example(given.context, raw["context"])
    for example in examples:
        _fill_example(given.examples.add(), example)


def classification_body(result: Any) -> bytes:
    """{"results": [[[label, score], …], …]}"""
    rows = [
        [[one.label, score] for one, score in zip(row.classes, _short([one.score for one in row.classes]), strict=True)]
        for row in result.classifications
    ]
    return json.dumps({"results": rows}, ensure_ascii=False).encode()


def regression_body(result: Any) -> bytes:
    """{"results": [value, …]}"""
    return json.dumps({"results": _short([one.value for one in result.regressions])}).encode()


def _short(values: list[float]) -> Any:
    return json_text.short_floats(np.array(values, np.float32))


def _fill_example(example: Any, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"Example must be JSON object but got JSON {json_type(raw)}")
    for name, content in raw.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add(feature, name, value)


def _add(feature: Any, name: str, value: Any) -> None:
    item: bytes | float | int
    if isinstance(value, (str, dict)) and (isinstance(value, str) or is_base64(value)):
        kind, item = "bytes_list", as_bytes(value)
    elif isinstance(value, float):
        kind, item = "float_list", value
        if abs(value) > float(np.finfo(np.float32).max) and np.isfinite(value):
            raise InvalidRequest(f"Cannot convert JSON value: {value} to {tf_name('FP32')} without loss of precision.")
    elif isinstance(value, int):
        kind, item = "int64_list", int(value)
        if not -(2**63) <= item < 2**63:
            raise InvalidRequest(f"Feature: {name} has uint64 element. Only int64 is supported.")
    else:
        raise InvalidRequest(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    before = feature.WhichOneof("kind")
    if before not in (None, kind):
        raise InvalidRequest(f"Unexpected element type in feature: {name} expecting type: {_KINDS[before]}")
    getattr(feature, kind).value.append(item)
