"""The KServe v2 REST service and /metrics: converts and delegates to the dataplane."""

# ruff: noqa: ARG002 - signatures and names are the framework's

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atalaya_serving.about import EXTENSIONS, SERVER_NAME, server_version
from atalaya_serving.dataplane import Dataplane, InferReply
from atalaya_serving.errors import (
    CallCancelled,
    ModelNotFound,
    ModelNotReady,
    NotSupported,
    RequestTooLarge,
    ServingError,
)
from atalaya_serving.metrics import Exposition
from atalaya_serving.model_config import config_dict, statistics_dict
from atalaya_serving.rest_convert import (
    HEADER_LENGTH,
    RestInfer,
    accepted_encoding,
    compressed,
    decompressed,
    json_object,
    parse_infer,
    response_body,
    whole_number,
)
from atalaya_serving.rest_guard import DEFECT, Caller, count_refused, error_response

_LARGE_BYTES = 64 << 10
"""From here on bodies are decoded off the event loop, so that health answers meanwhile."""
Handler = Callable[[Request], Awaitable[Response]]


def application(routes: Sequence[Route]) -> Starlette:
    """The ASGI application; errors answer as JSON."""
    return Starlette(
        routes=routes,
        exception_handlers={ServingError: _on_serving_error, HTTPException: _on_http_error, Exception: _on_defect},
    )


class RestService:
    """The routes' handlers."""

    def __init__(self, dataplane: Dataplane, exposition: Exposition | None, max_body_bytes: int) -> None:
        self._dataplane, self._repository = dataplane, dataplane.repository
        self._exposition, self._limit = exposition, max_body_bytes

    def routes(self) -> list[Route]:
        """KServe v2 with Triton's extensions, and /metrics."""
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        routes = [
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/stats", self.statistics),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{model}/load", self.load, methods=["POST"]),
            Route("/v2/repository/models/{model}/unload", self.unload, methods=["POST"]),
            *(Route(base, self.model_metadata) for base in (model, version)),
            *(Route(f"{base}/ready", self.model_ready) for base in (model, version)),
            *(Route(f"{base}/config", self.model_config) for base in (model, version)),
            *(Route(f"{base}/stats", self.statistics) for base in (model, version)),
            *(Route(f"{base}/infer", self.infer, methods=["POST"]) for base in (model, version)),
            *(Route(path, self.not_offered, methods=["GET", "POST"]) for path in _NOT_OFFERED),
        ]
        if self._exposition is not None:
            routes.append(Route("/metrics", self.metrics))
        return routes

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return Response()

    async def ready(self, request: Request) -> Response:
        """200 when the server wants traffic, 503 otherwise."""
        return Response(status_code=200 if self._dataplane.is_ready() else 503)

    async def server_metadata(self, request: Request) -> Response:
        """Who this is."""
        return JSONResponse({"name": SERVER_NAME, "version": server_version(), "extensions": list(EXTENSIONS)})

    async def model_ready(self, request: Request) -> Response:
        """200 when the version, or any, serves; 404 when there is none; 503 when it cannot."""
        try:
            self._repository.resolve(*_named(request))
        except (ModelNotFound, ModelNotReady) as error:
            return error_response(error)
        return Response(status_code=503 if self._dataplane.is_draining else 200)

    async def model_metadata(self, request: Request) -> Response:
        """Names, datatypes and shapes of the tensors."""
        name, version = _named(request)
        served = self._repository.resolve(name, version)
        numbers = [served.version] if version else self._repository.ready_versions(name)
        tensors = {
            kind: [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
            for kind, specs in (("inputs", served.model.inputs), ("outputs", served.model.outputs))
        }
        told = {"name": served.name, "versions": list(map(str, numbers)), "platform": served.model.platform}
        return JSONResponse(told | tensors)

    async def model_config(self, request: Request) -> Response:
        """The model as Triton tells it; parameters carry the digest."""
        return JSONResponse(config_dict(self._repository.resolve(*_named(request))))

    async def statistics(self, request: Request) -> Response:
        """Counts and times of one version, of a model's, or of all."""
        name, version = _named(request)
        chosen = self._repository.served()
        if name:
            one = self._repository.resolve(name, version)
            chosen = [served for served in chosen if served.name == name and (not version or served is one)]
        return JSONResponse({"model_stats": [statistics_dict(served) for served in chosen]})

    async def index(self, request: Request) -> Response:
        """All versions with their states."""
        wish = _object(await self.read_body(request))
        lines = [line for line in self._repository.index() if line.state == "READY" or not wish.get("ready")]
        return JSONResponse(
            [{"name": line.name, "version": line.version, "state": line.state, "reason": line.reason} for line in lines]
        )

    async def load(self, request: Request) -> Response:
        """Load a model, or look again at its versions."""
        if _object(await self.read_body(request)).get("parameters"):
            raise NotSupported("a load takes no parameters here; change the model's folder or the config file.")
        await run_in_threadpool(self._repository.load, request.path_params["model"])
        return Response()

    async def unload(self, request: Request) -> Response:
        """Take a model out of service."""
        await self.read_body(request)
        await run_in_threadpool(self._repository.unload, request.path_params["model"])
        return Response()

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        assert self._exposition is not None
        return Response(await run_in_threadpool(self._exposition.text), media_type=self._exposition.content_type)

    async def not_offered(self, request: Request) -> Response:
        """What Triton has and this server has not."""
        raise NotSupported(
            "this server does not offer it: shared memory is not mapped (send the bytes), traces and log levels are set"
            " when it is started (--log_level)."
        )

    async def infer(self, request: Request) -> Response:
        """One inference."""
        name, version = _named(request)
        arrived_at = time.monotonic()
        try:
            body = await self.read_body(request)
            asked = await _off_loop(len(body), parse_infer, name, version, body, request.headers.get(HEADER_LENGTH))
        except ServingError as error:
            count_refused(self._dataplane, "rest", error)
            raise
        asked.request.arrived_at = arrived_at
        asked.request.deadline = arrived_at + asked.timeout_seconds
        async with Caller(request) as caller:
            asked.request.is_cancelled = caller.has_left
            body, length = await self._answer(asked)
        headers = {} if length is None else {HEADER_LENGTH: str(length)}
        encoding = accepted_encoding(request.headers.get("accept-encoding", ""))
        if encoding:
            body, headers["Content-Encoding"] = compressed(body, encoding), encoding
        kind = "application/json" if length is None else "application/octet-stream"
        return Response(body, headers=headers, media_type=kind)

    async def _answer(self, asked: RestInfer) -> tuple[bytes, int | None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[bytes, int | None]] = loop.create_future()

        def receive(reply: InferReply) -> None:
            """In the slot's thread: the tensors are only good until this returns."""
            made, failed = None, reply.error
            if failed is None:
                try:
                    made = response_body(reply, asked)
                except ServingError as error:
                    failed = error
            with suppress(RuntimeError):  # the drain is over: the loop is closed, and nobody waits
                loop.call_soon_threadsafe(_set, answer, made, failed)

        self._dataplane.infer(asked.request, receive)
        return await answer

    async def read_body(self, request: Request) -> bytes:
        """The whole body, unpacked, never past the limit."""
        parts, size = [], whole_number(request.headers.get("content-length", "0")) or 0
        if size <= self._limit:
            size = 0
            try:
                async for part in request.stream():
                    size += len(part)
                    if size > self._limit:
                        break
                    parts.append(part)
            except ClientDisconnect:
                raise CallCancelled("the caller left before its request was whole; nothing was computed.") from None
        if size > self._limit:
            raise RequestTooLarge(
                f"the body has more than {self._limit} bytes; send less, or raise --max_message_bytes."
            )
        encoding = request.headers.get("content-encoding", "").strip().lower()
        body = b"".join(parts) if len(parts) != 1 else parts[0]
        return decompressed(body, encoding, self._limit) if encoding else body


_SHARED_MEMORY = tuple(
    f"/v2/{kind}sharedmemory{rest}"
    for kind in ("system", "cuda")
    for rest in ("/status", "/region/{region}/status", "/region/{region}/register", "/unregister",
                 "/region/{region}/unregister")
)  # fmt: skip
_NOT_OFFERED = (*_SHARED_MEMORY, "/v2/trace/setting", "/v2/models/{model}/trace/setting", "/v2/logging")


def _named(request: Request) -> tuple[str, str]:
    return request.path_params.get("model", ""), request.path_params.get("version", "")


def _object(body: bytes) -> dict[str, Any]:
    return json_object(body) if body.strip() else {}


async def _off_loop(size: int, function: Callable[..., RestInfer], *arguments: Any) -> RestInfer:
    if size < _LARGE_BYTES:
        return function(*arguments)
    return await run_in_threadpool(function, *arguments)


def _set(
    answer: "asyncio.Future[tuple[bytes, int | None]]",
    made: tuple[bytes, int | None] | None,
    error: ServingError | None,
) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    elif made is not None:
        answer.set_result(made)


async def _on_serving_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return error_response(error)


async def _on_defect(_request: Request, _error: Exception) -> Response:
    """RestGuard logs it."""
    return error_response(DEFECT)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    served = "KServe v2 is below /v2, TensorFlow Serving's API below /v1, metrics are at /metrics."
    told = f"{request.method} {request.url.path}: {error.detail}; {served}"
    return JSONResponse({"error": told}, status_code=error.status_code, headers=error.headers)
