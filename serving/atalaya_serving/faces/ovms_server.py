"""A server that behaves as an `ovms`: what is registered, when it is ready, how its config is taken anew."""

# ruff: noqa: ARG001, ARG002, N802 - signatures and names are the framework's

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from starlette.routing import Route
from starlette.types import ASGIApp
from tritonclient.grpc import service_pb2

from atalaya_serving.config_poll import ConfigPoll
from atalaya_serving.dataplane import Dataplane
from atalaya_serving.engines.base import Engine
from atalaya_serving.errors import ModelNotFound, ModelNotReady
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.grpc_methods import OfferedMethods
from atalaya_serving.faces.ovms_config import read_config
from atalaya_serving.faces.ovms_metrics import BOUNDS_SECONDS, GRPC, KSERVE, TFS, OvmsMetrics
from atalaya_serving.faces.ovms_rest import PROJECT_NAME, OvmsRest, tell_call
from atalaya_serving.faces.ovms_settings import EXIT_FAILURE, OvmsStart
from atalaya_serving.grpc_fast import FastMethod
from atalaya_serving.grpc_server import Register, add_v2
from atalaya_serving.grpc_v2 import SERVICE, InferenceService
from atalaya_serving.rest_v2 import RestService
from atalaya_serving.server import Server
from atalaya_serving.stats import VersionStats
from atalaya_serving.tfs.grpc_service import add_fast_services
from atalaya_serving.tfs.rest_service import TfsRest
from atalaya_spec.model_server import TENSORFLOW_SERVING, ModelServer

_log = logging.getLogger(__name__)
_V2 = "/inference.GRPCInferenceService/"
_V2_METHODS = frozenset(
    _V2 + name
    for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
                 "ModelStreamInfer")
)  # fmt: skip
_TFS = "/tensorflow.serving."
_TFS_METHODS = frozenset(
    _TFS + name
    for name in ("PredictionService/Predict", "PredictionService/GetModelMetadata", "ModelService/GetModelStatus")
)
_NOT_LOADED = "Model with requested name is not found"
_NO_GRAPH = "Mediapipe graph definition with requested name is not found"


class OvmsServer(Server):
    """An `ovms` of one version."""

    def __init__(self, start: OvmsStart, engine: Engine, *, fast: bool = True) -> None:
        """Bind the ports; load nothing yet. Raises SettingsError."""
        self._start = start
        self._poll: ConfigPoll | None = None
        self._apis = (KSERVE, TFS) if TENSORFLOW_SERVING in start.server.protocols else (KSERVE,)
        self.metrics: OvmsMetrics | None = None
        super().__init__(start.settings, engine, fast=fast)
        self.dataplane.is_ready_with_failed_models = start.config_path is not None

    def _metrics(self) -> OvmsMetrics:
        if self.metrics is None:
            self.metrics = OvmsMetrics(self.dataplane, self._start.families, self._apis)
        return self.metrics

    def load(self) -> None:
        """Load; the one model of the command line must serve, those of a config file may fail."""
        for note in self._start.notes:
            _log.warning("accepted, without effect here", extra={"asked": note})
        super().load()
        if self._start.config_path is None and not self.dataplane.is_draining:
            failed = [line for line in self.repository.index() if line.state != "READY"]
            if failed:
                raise Ended(EXIT_FAILURE, f"Couldn't start model manager: {failed[0].name}: {failed[0].reason}\n")
            self.dataplane.is_ready_with_failed_models = True

    def grpc_services(self) -> list[Register]:
        """KServe v2's own calls; three of TensorFlow Serving's where this version speaks it; no grpc.health.v1."""
        service = OvmsInferenceService(self.dataplane, self._start.server)
        registers: list[Register] = [lambda server: add_v2(self._offered(server), service)]
        if TFS in self._apis:
            registers.append(lambda server: add_fast_services(self._offered(server), self.tfs, self._watch_tfs))
        return registers

    def _offered(self, server: grpc.Server) -> OfferedMethods:
        return OfferedMethods(server, _V2_METHODS | _TFS_METHODS, self._watch)

    def _watch(self, method: str, request: Any, status: str, _seconds: float) -> None:
        name = method.removeprefix(_V2)
        if name in ("ModelMetadata", "ModelReady"):
            self._count((KSERVE, GRPC, name), request.name, request.version, status)

    def _watch_tfs(self, method: str, spec: Any, status: str, _seconds: float) -> None:
        if method in ("GetModelMetadata", "GetModelStatus"):
            self._count((TFS, GRPC, method), spec.name, str(spec.version.value or ""), status)

    def _count(self, call: tuple[str, str, str], model: str, version: str, status: str) -> None:
        told = tell_call(self.repository, call, model, version)
        if told is not None:
            self._metrics().tells.count(told, is_ok=status == "OK")

    def rest_app(self) -> ASGIApp:
        """With what browsers are told of other sites' pages."""
        cors = self._start.cors
        return cors.around(super().rest_app()) if cors else super().rest_app()

    def rest_routes(self) -> list[Route]:
        """See OvmsRest."""
        service = RestService(self.dataplane, None, self.settings.max_message_bytes)
        rest = OvmsRest(self._start.server, self.repository, service, self._metrics(), self.reload)
        tfs = TfsRest(self.tfs, self.dataplane, service.read_body)
        return rest.routes(tfs.handle, has_metrics=bool(self._start.families))

    def new_stats(self, _model: str) -> VersionStats:
        """Books with the original's buckets."""
        return VersionStats(BOUNDS_SECONDS)

    def config_poll(self) -> ConfigPoll | None:
        """Follows --config_path. The file is known even where it is not followed, for a reload on request."""
        path, seconds = self._start.config_path, self.settings.poll_wait_seconds
        if path is None:
            return None
        self._poll = ConfigPoll(path, seconds or 1.0, self._take_config)
        return self._poll if seconds else None

    def reload(self) -> bool:
        """Take the config file and the models' folders as they are now. Raises ServingError, SettingsError, OSError."""
        before = self._picture()
        is_new = False
        if self._poll is not None and self._start.config_path is not None:
            self._start.config_path.stat()
            is_new = self._poll.take_if_new(again=True)
        self.repository.look(settled_only=False)
        return is_new or self._picture() != before

    def _picture(self) -> list[Any]:
        return [(line.name, line.version, line.state) for line in self.repository.index()]

    def _take_config(self) -> None:
        assert self._start.config_path is not None
        self.repository.configure(read_config(self._start.config_path, self._start.server).models)


class OvmsInferenceService(InferenceService):
    """KServe v2 with the original's words where they differ."""

    def __init__(self, dataplane: Dataplane, server: ModelServer) -> None:
        super().__init__(dataplane)
        self._server = server

    def add_to(self, server: grpc.Server) -> Mapping[str, FastMethod]:
        """The same, but for streams, which answer first here."""
        streams = {"ModelStreamInfer": grpc.stream_stream_rpc_method_handler(_no_graph)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, streams),))
        return super().add_to(server)

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Who this stands in for."""
        return service_pb2.ServerMetadataResponse(name=PROJECT_NAME, version=self._server.version)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        """NOT_FOUND until it serves."""
        try:
            self._repository.resolve(request.name, request.version)
        except (ModelNotFound, ModelNotReady):
            context.abort(grpc.StatusCode.NOT_FOUND, _NOT_LOADED)
        return service_pb2.ModelReadyResponse(ready=not self._dataplane.is_draining)


def _no_graph(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """Streams are for MediaPipe graphs, of which there are none here."""
    context.abort(grpc.StatusCode.NOT_FOUND, _NO_GRAPH)
    yield
