"""TensorFlow Serving's REST API below /v1: converts and delegates."""

import json
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from google.protobuf.json_format import MessageToDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atalaya_serving.dataplane import Dataplane
from atalaya_serving.engines.base import DEFAULT_SIGNATURE
from atalaya_serving.errors import InvalidRequest, ServingError
from atalaya_serving.rest_guard import Caller, count_refused, error_response
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
_PROTOCOL = "tfs-rest"


class TfsRest:
    """The handlers; `read_body` is the server's own reader, with its limits."""

    def __init__(self, api: TfsApi, dataplane: Dataplane, read_body: Callable[[Request], Awaitable[bytes]]) -> None:
        self._api, self._dataplane, self._read_body = api, dataplane, read_body
        self._methods = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        # Threads of their own: calls that wait for an answer must not keep /metrics waiting. RestGuard bounds them.
        self._threads: CapacityLimiter | None = None

    def routes(self) -> list[Route]:
        """What the server's application takes in."""
        return [Route("/v1/{path:path}", self.handle, methods=["GET", "POST"])]

    async def handle(self, request: Request) -> Response:
        """Any call below /v1."""
        try:
            if request.method == "POST":
                return _json(await self._post(request))
            return _json(await run_in_threadpool(self._tell, request.url.path))
        except ServingError as error:
            return error_response(error)

    async def _post(self, request: Request) -> bytes:
        self._threads = self._threads or CapacityLimiter(math.inf)
        try:
            body = await self._read_body(request)
        except ServingError as error:
            count_refused(self._dataplane, _PROTOCOL, error)
            raise
        async with Caller(request) as caller:
            call = Call(_PROTOCOL, is_cancelled=caller.has_left)
            return await to_thread.run_sync(self._compute, request.url.path, body, call, limiter=self._threads)

    def _tell(self, path: str) -> bytes:
        if found := _TELL.fullmatch(path):
            return self._metadata(found) if found["metadata"] else self._status(found)
        raise InvalidRequest(f"Malformed request: GET {path}")

    def _compute(self, path: str, body: bytes, call: Call) -> bytes:
        """What is refused before the call reaches the model is counted here, the rest where it is computed."""
        try:
            found = _COMPUTE.fullmatch(path)
            if not found:
                raise InvalidRequest(f"Malformed request: POST {path}")
            answer = _unless_too_deep(self._methods[found["method"].lower()], found, body, call)
        except ServingError as error:
            count_refused(self._dataplane, _PROTOCOL, error)
            raise
        return answer()

    def _predict(self, found: "re.Match[str]", body: bytes, call: Call) -> Callable[[], bytes]:
        raw = parse_object(body)
        spec = _fill(PredictRequest().model_spec, found)
        spec.signature_name = signature_name(raw)
        served = self._api.calls.resolve(spec)
        wanted = spec.signature_name or DEFAULT_SIGNATURE
        if wanted not in signatures_of(served):
            raise InvalidRequest(f'Serving signature name: "{wanted}" not found in signature def')
        tensors, in_rows = request_tensors(raw, predict_signature(served, wanted).inputs)

        def answer() -> bytes:
            given = self._api.predictions.compute(spec, tensors, [], call)
            datatypes = {one.name: one.datatype for one in predict_signature(given.served, wanted).outputs}
            return response_body(given.outputs, datatypes, in_rows=in_rows)

        return answer

    def _classify(self, found: "re.Match[str]", body: bytes, call: Call) -> Callable[[], bytes]:
        request = ClassificationRequest()
        fill_request(request, parse_object(body))
        _fill(request.model_spec, found)
        return lambda: classification_body(self._api.classify(request, call).result)

    def _regress(self, found: "re.Match[str]", body: bytes, call: Call) -> Callable[[], bytes]:
        request = RegressionRequest()
        fill_request(request, parse_object(body))
        _fill(request.model_spec, found)
        return lambda: regression_body(self._api.regress(request, call).result)

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


def _unless_too_deep(method: Callable[..., Callable[[], bytes]], *given: Any) -> Callable[[], bytes]:
    try:
        return method(*given)
    except RecursionError as error:  # a document that can be read and not be told
        raise InvalidRequest("JSON Parse error: lists or objects are nested too deeply") from error


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


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
