"""TensorFlow Serving's REST API below /v1: converts and delegates."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atalaya_serving.engines.base import DEFAULT_SIGNATURE
from atalaya_serving.errors import InvalidRequest, ServingError, code_of
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call
from atalaya_serving.tfs.json_examples import classification_body, fill_request, regression_body
from atalaya_serving.tfs.json_tensors import parse_object, request_tensors, response_body, signature_name
from atalaya_serving.tfs.messages import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    RegressionRequest,
    SignatureDefMap,
)
from atalaya_serving.tfs.predict import SIGNATURE_DEF, predict_signature
from atalaya_serving.tfs.signatures import signatures_of

_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_COMPUTE = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_TELL = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)
_CALL = Call("tfs-rest")


class TfsRest:
    """The handlers; `read_body` is the server's own reader, with its limits."""

    def __init__(self, api: TfsApi, read_body: Callable[[Request], Awaitable[bytes]]) -> None:
        self._api, self._read_body = api, read_body
        self._methods = {"predict": self._predict, "classify": self._classify, "regress": self._regress}

    def routes(self) -> list[Route]:
        """What the server's application takes in."""
        return [Route("/v1/{path:path}", self.handle, methods=["GET", "POST"])]

    async def handle(self, request: Request) -> Response:
        """Any call below /v1."""
        try:
            body = await self._read_body(request) if request.method == "POST" else b""
            return _json(await run_in_threadpool(self._answer, request.method, request.url.path, body))
        except ServingError as error:
            return _json(json.dumps({"error": str(error)}).encode(), code_of(error).http)

    def _answer(self, http_method: str, path: str, body: bytes) -> bytes:
        if http_method == "POST" and (found := _COMPUTE.fullmatch(path)):
            return self._methods[found["method"].lower()](found, body)
        if http_method != "POST" and (found := _TELL.fullmatch(path)):
            return self._metadata(found) if found["metadata"] else self._status(found)
        raise InvalidRequest(f"Malformed request: {http_method} {path}")

    def _predict(self, found: "re.Match[str]", body: bytes) -> bytes:
        raw = parse_object(body)
        spec = _fill(PredictRequest().model_spec, found)
        spec.signature_name = signature_name(raw)
        served = self._api.calls.resolve(spec)
        wanted = spec.signature_name or DEFAULT_SIGNATURE
        if wanted not in signatures_of(served):
            raise InvalidRequest(f'Serving signature name: "{wanted}" not found in signature def')
        tensors, in_rows = request_tensors(raw, predict_signature(served, wanted).inputs)
        answer = self._api.predictions.compute(spec, tensors, [], _CALL)
        datatypes = {one.name: one.datatype for one in predict_signature(answer.served, wanted).outputs}
        return response_body(answer.outputs, datatypes, in_rows=in_rows)

    def _classify(self, found: "re.Match[str]", body: bytes) -> bytes:
        request = ClassificationRequest()
        fill_request(request, parse_object(body))
        _fill(request.model_spec, found)
        return classification_body(self._api.classify(request, _CALL).result)

    def _regress(self, found: "re.Match[str]", body: bytes) -> bytes:
        request = RegressionRequest()
        fill_request(request, parse_object(body))
        _fill(request.model_spec, found)
        return regression_body(self._api.regress(request, _CALL).result)

    def _status(self, found: "re.Match[str]") -> bytes:
        request = GetModelStatusRequest()
        _fill(request.model_spec, found)
        return _pretty(_as_dict(self._api.status(request)))

    def _metadata(self, found: "re.Match[str]") -> bytes:
        request = GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF])
        _fill(request.model_spec, found)
        told = self._api.metadata(request)
        signatures = _as_dict(SignatureDefMap.FromString(told.metadata[SIGNATURE_DEF].value))
        return _pretty({"model_spec": _as_dict(told.model_spec), "metadata": {SIGNATURE_DEF: signatures}})


def _fill(spec: Any, found: "re.Match[str]") -> Any:
    spec.name = found["model"]
    if found["version"] is not None:
        if len(found["version"]) > 19 or int(found["version"]) >= 2**63:
            raise InvalidRequest(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    elif found["label"] is not None:
        spec.version_label = found["label"]
    return spec


def _as_dict(message: Any) -> dict[str, Any]:
    made: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return made


def _pretty(answer: Any) -> bytes:
    return (json.dumps(answer, indent=1) + "\n").encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status_code=status, media_type="application/json")
