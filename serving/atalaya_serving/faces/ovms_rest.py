"""REST as an `ovms` has it: KServe v2 without extensions, config state and reload, metrics; TFS while it spoke it.

Also its own answers: any other path is an invalid URL, and a model that is not loaded is not found.
"""

# ruff: noqa: ARG002 - signatures are the framework's

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atalaya_serving.errors import ModelNotFound, ModelNotReady, ServingError, SettingsError
from atalaya_serving.faces.exposition import Page
from atalaya_serving.faces.ovms_metrics import KSERVE, REST, TFS, WITHOUT_VERSION, OvmsMetrics, TellCall
from atalaya_serving.repository import ModelRepository
from atalaya_serving.rest_v2 import RestService
from atalaya_spec.model_server import TENSORFLOW_SERVING, ModelServer

Handler = Callable[[Request], Awaitable[Response]]
PROJECT_NAME = "OpenVINO Model Server"
_TFS_TELLS = re.compile(r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[0-9]+))?(?P<metadata>/metadata)?")


class OvmsRest:
    """The routes. `reload` takes the config file and the models' folders again, and says whether something changed."""

    def __init__(
        self, server: ModelServer, repository: ModelRepository, service: RestService, metrics: OvmsMetrics,
        reload: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._server, self._repository, self._service = server, repository, service
        self._metrics, self._reload = metrics, reload

    def routes(self, tfs: Handler, *, has_metrics: bool) -> list[Route]:
        """All paths; `tfs` answers below /v1 where this version still speaks it."""
        service, model = self._service, "/v2/models/{model}"
        version = f"{model}/versions/{{version}}"
        metadata = self._counted("ModelMetadata", service.model_metadata)
        ready = self._counted("ModelReady", self.model_ready)
        routes = [
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", service.live),
            Route("/v2/health/ready", self.ready),
            *(Route(base, metadata) for base in (model, version)),
            *(Route(f"{base}/ready", ready) for base in (model, version)),
            *(Route(f"{base}/infer", service.infer, methods=["POST"]) for base in (model, version)),
            Route("/v1/config", self.config),
            Route("/v1/config/reload", self.config_reload, methods=["POST"]),
        ]
        if has_metrics:
            routes.append(Route("/metrics", self.metrics))
        if TENSORFLOW_SERVING in self._server.protocols:
            routes.append(Route("/v1/{path:path}", self._tfs(tfs), methods=["GET", "POST"]))
        return [*routes, Route("/{path:path}", self.invalid, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]

    async def server_metadata(self, request: Request) -> Response:
        """Who this stands in for."""
        return JSONResponse({"name": PROJECT_NAME, "version": self._server.version})

    async def ready(self, request: Request) -> Response:
        """200 once every model was tried, whether or not it serves."""
        answer = await self._service.ready(request)
        return answer if answer.status_code == 200 else JSONResponse({"error": "Server is not ready"}, 503)

    async def model_ready(self, request: Request) -> Response:
        """200 when it serves, else 404."""
        answer = await self._service.model_ready(request)
        return answer if answer.status_code == 200 else _error("Model with requested name is not found", 404)

    async def config(self, request: Request) -> Response:
        """The states of all models."""
        return Response(self._states(), media_type="application/json")

    async def config_reload(self, request: Request) -> Response:
        """201 when the config or a version was taken anew, 200 when there was nothing to take."""
        await self._service.read_body(request)
        try:
            is_changed = await run_in_threadpool(self._reload)
        except FileNotFoundError:
            return _error("Config file not found or cannot open.", 500)
        except (ServingError, SettingsError):
            return _error("Reloading config file failed. Check server logs for more info.", 500)
        return Response(self._states(), status_code=201 if is_changed else 200, media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        page = Page(self._metrics.families)
        return Response(await run_in_threadpool(page.text), media_type=page.content_type)

    async def invalid(self, request: Request) -> Response:
        """Any path that the original does not know."""
        return _error("Invalid request URL", 400)

    def _states(self) -> bytes:
        told = {
            name: {"model_version_status": lines} for name in self._repository.names() if (lines := self._lines(name))
        }
        return json.dumps(told, indent=1).encode()

    def _lines(self, name: str) -> list[dict[str, Any]]:
        """Newest first, as its own status has it; a version that could not be loaded stays LOADING, with UNKNOWN."""
        lines = []
        for state in reversed(self._repository.states(name)):
            has_failed = bool(state.reason)
            code = "UNKNOWN" if has_failed else "OK"
            lines.append({"version": str(state.version), "state": "LOADING" if has_failed else state.state,
                          "status": {"error_code": code, "error_message": code}})  # fmt: skip
        return lines

    def _tfs(self, tfs: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            path = request.url.path.lower()
            if path.endswith((":classify", ":regress")):
                return _error("Requested functionality not implemented yet", 501)
            found = _TFS_TELLS.fullmatch(request.url.path)
            response = await tfs(request)
            if found is not None and request.method == "GET":
                method = "GetModelMetadata" if found["metadata"] else "GetModelStatus"
                self._count(TFS, method, found["model"], found["version"] or "", response.status_code)
            return response

        return answer

    def _counted(self, method: str, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            model, version = request.path_params.get("model", ""), request.path_params.get("version", "")
            try:
                response = await handler(request)
            except ServingError:
                self._count(KSERVE, method, model, version, 500)
                raise
            self._count(KSERVE, method, model, version, response.status_code)
            return response

        return answer

    def _count(self, api: str, method: str, model: str, version: str, status: int) -> None:
        call = tell_call(self._repository, (api, REST, method), model, version)
        if call is not None:
            self._metrics.tells.count(call, is_ok=status < 400)


def tell_call(repository: ModelRepository, kind: tuple[str, str, str], model: str, version: str) -> TellCall | None:
    """The call as it is counted, by the version that answers; None for a model that is not known here."""
    if kind[2] in WITHOUT_VERSION:
        return TellCall(*kind, model) if model in repository.names() else None
    try:
        return TellCall(*kind, model, repository.resolve(model, version).version_text)
    except (ModelNotFound, ModelNotReady):
        return None


def _error(words: str, status: int) -> Response:
    return JSONResponse({"error": words}, status_code=status)
