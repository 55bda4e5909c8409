"""A server that behaves as a `tensorflow_model_server`: its ports open once every model serves; its own API only."""

# ruff: noqa: ARG001, ARG002 - signatures are the framework's

import logging
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from grpc_health.v1 import health_pb2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from atalaya_serving.engines.base import Engine
from atalaya_serving.errors import CODES, ModelLoadFailed, SettingsError
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.exposition import Page
from atalaya_serving.faces.grpc_methods import OfferedMethods
from atalaya_serving.faces.tfs_flags import EXIT_FAILED
from atalaya_serving.faces.tfs_metrics import GRPC, REST, TfsMetrics
from atalaya_serving.faces.tfs_settings import TfsStart
from atalaya_serving.grpc_health import Health
from atalaya_serving.grpc_server import Register, add_health
from atalaya_serving.model_state import VersionState
from atalaya_serving.rest_v2 import RestService
from atalaya_serving.server import Server
from atalaya_serving.stats import VersionStats
from atalaya_serving.tfs.grpc_service import add_fast_services
from atalaya_serving.tfs.rest_service import TfsRest

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
_API = "/tensorflow.serving."
_METHODS = frozenset(
    _API + name
    for name in ("PredictionService/Predict", "PredictionService/Classify", "PredictionService/Regress",
                 "PredictionService/MultiInference", "PredictionService/GetModelMetadata",
                 "ModelService/GetModelStatus", "ModelService/HandleReloadConfigRequest")
)  # fmt: skip
_COUNTED = frozenset({"Predict", "Classify", "Regress"})
_COMPUTE = re.compile(r"/v1/models/(?P<model>[^/:]+)(?:/[^:]*)?:(?P<method>classify|regress|predict)", re.IGNORECASE)
# REST tells a status by its HTTP code only; where several share one, the likeliest stands for all.
_STATUS_OF_HTTP = {code.http: code.grpc.name for code in reversed(CODES.values())} | {
    200: "OK",
    400: "INVALID_ARGUMENT",
}


class TfsServer(Server):
    """A `tensorflow_model_server` of one version."""

    listens_while_loading = False

    def __init__(self, start: TfsStart, engine: Engine, *, fast: bool = True) -> None:
        """Load and bind nothing yet."""
        self._start = start
        self._metrics: TfsMetrics | None = None
        super().__init__(start.settings, engine, fast=fast)

    @property
    def metrics(self) -> TfsMetrics:
        """What is counted, whether or not it is told."""
        if self._metrics is None:
            self._metrics = TfsMetrics(self.repository)
        return self._metrics

    def listen(self) -> None:
        """Nothing is open before the models serve."""

    def load(self) -> None:
        """Load until every model serves, then open the ports. Raises Ended when one cannot be loaded."""
        for note in self._start.notes:
            _log.warning("accepted, without effect here", extra={"asked": note})
        self.repository.start()
        self._tell_awaited()
        tries = 0
        while not (self.repository.is_ready() or self.dataplane.is_draining):
            if failed := self._failed():
                if tries >= self._start.load_retries:
                    raise Ended(EXIT_FAILED, _did_not_load(failed), is_error=False)
                tries += 1
                self._wait(self._start.retry_seconds)
                self._try_again(failed)
            else:
                self._wait(_LOOK_SECONDS)
        if self.dataplane.is_draining:
            return
        try:
            self.bind()
        except SettingsError as error:
            raise Ended(EXIT_FAILED, f"Failed to start server. Error: UNKNOWN: {error}\n", is_error=False) from error
        super().listen()
        if self._config_poll:
            self._config_poll.start()
        if self.grpc:
            _log.info(f"Running gRPC ModelServer at {self.grpc.address} ...", extra=dict(self._engine.describe()))
        if self.rest:
            _log.info(f"Exporting HTTP/REST API at:{self.rest.address} ...")

    def _tell_awaited(self) -> None:
        for line in self.repository.index():
            if line.state == "UNAVAILABLE" and not line.version:
                _log.warning("waiting for a version", extra={"model": line.name, "reason": line.reason})

    def _failed(self) -> list[VersionState]:
        """The versions that could not be loaded; a model without any version is waited for."""
        return [line for line in self.repository.index() if line.state == "UNAVAILABLE" and line.version]

    def _try_again(self, failed: list[VersionState]) -> None:
        for name in sorted({line.name for line in failed}):
            try:
                self.repository.load(name)
            except ModelLoadFailed as error:
                _log.warning("still not loaded", extra={"model": name, "reason": str(error)})

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.dataplane.is_draining and time.monotonic() < until:
            time.sleep(min(_LOOK_SECONDS, seconds))

    def new_stats(self, model: str) -> VersionStats:
        """One book a model, with the original's buckets."""
        return self.metrics.new_stats(model)

    def grpc_services(self) -> list[Register]:
        """PredictionService and ModelService; grpc.health.v1 where its flag asks for it."""
        registers: list[Register] = [
            lambda server: add_fast_services(OfferedMethods(server, _METHODS), self.tfs, self._watch)
        ]
        if self._start.has_health:
            registers.append(partial(add_health, health=_ServerHealth(self.dataplane)))
        return registers

    def _watch(self, method: str, spec: Any, status: str, seconds: float) -> None:
        if method in _COUNTED:
            self.metrics.count((spec.name, method, GRPC), status, seconds)

    def rest_app(self) -> ASGIApp:
        """With what browsers are told of other sites' pages."""
        cors = self._start.cors
        return cors.around(super().rest_app()) if cors else super().rest_app()

    def rest_routes(self) -> list[Route]:
        """The API below /v1, and metrics where the monitoring config puts them."""
        service = RestService(self.dataplane, None, self.settings.max_message_bytes)
        tfs = TfsRest(self.tfs, self.dataplane, service.read_body)
        routes = [Route("/v1/{path:path}", self._counted(tfs.handle), methods=["GET", "POST"])]
        if self._start.metrics_path:
            routes.insert(0, Route(self._start.metrics_path, self._tell_metrics))
        return [*routes, Route("/{path:path}", _not_found, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]

    def _counted(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            started_at = time.monotonic()
            response = await handle(request)
            found = _COMPUTE.fullmatch(request.url.path)
            if found is not None and request.method == "POST":
                status = _STATUS_OF_HTTP.get(response.status_code, "UNKNOWN")
                call = (found["model"], found["method"].lower(), REST)
                self.metrics.count(call, status, time.monotonic() - started_at)
            return response

        return answer

    async def _tell_metrics(self, request: Request) -> Response:
        page = Page(self.metrics.families)
        return Response(await run_in_threadpool(page.text), media_type=page.content_type)


class _ServerHealth(Health):
    """The server as a whole; the original knows no other name."""

    def _status(self, service: str) -> int:
        states = health_pb2.HealthCheckResponse
        if service:
            return int(states.SERVICE_UNKNOWN)
        return int(states.NOT_SERVING if self._dataplane.is_draining else states.SERVING)


async def _not_found(request: Request) -> Response:
    return PlainTextResponse("Not Found", 404)


def _did_not_load(failed: list[VersionState]) -> str:
    told = "".join(f"{{name: {line.name} version: {line.version}}} due to error: {line.reason}, " for line in failed)
    return f"Failed to start server. Error: UNKNOWN: {len(failed)} servable(s) did not become available: {{{told}}}\n"
