"""The calls beside inference: the server's own services over a remote dataplane, less what an upstream cannot do."""

# ruff: noqa: ARG002, N802 - signatures and names are the framework's

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tritonclient.grpc import service_pb2

from atalaya_serving.about import SERVER_NAME, server_version
from atalaya_serving.bridge import lane
from atalaya_serving.bridge.fronts import TfsFront, V2Front
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.remote import RemoteDataplane, RemoteModels
from atalaya_serving.bridge.streams import Streams
from atalaya_serving.bridge.watch import ASKED_AT_ONCE
from atalaya_serving.errors import NotSupported, ServingError
from atalaya_serving.grpc_fast import FastMethod
from atalaya_serving.grpc_health import Health
from atalaya_serving.grpc_v2 import SERVICE, InferenceService
from atalaya_serving.rest_v2 import RestService
from atalaya_serving.tfs.api import TfsApi
from atalaya_serving.tfs.calls import Call
from atalaya_serving.tfs.grpc_service import add_fast_services
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.rest_service import TfsRest

EXTENSIONS = ("binary_tensor_data",)
_NOT_HERE = "the bridge changes nothing behind it and knows no more than its upstream tells; ask the upstream itself."


class BridgedTfs(TfsApi):
    """TensorFlow Serving's API over a KServe v2 server."""

    def __init__(self, dataplane: RemoteDataplane, labels: Mapping[str, Mapping[str, int]]) -> None:
        self._dataplane, self._labels = dataplane, LabelTable(labels)
        super().__init__(dataplane, self._labels)

    def add_to(self, server: grpc.Server) -> Mapping[str, FastMethod]:
        """Register both services; the handler of Predict that is found first answers it."""
        front = TfsFront(self._labels)
        hop = Hop(front, self._dataplane)
        service, _, method = front.method[1:].partition("/")
        predict = grpc.unary_unary_rpc_method_handler(lane.ordinary(hop))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: predict}),))
        add_fast_services(server, self)
        return {front.method: lane.short_way(hop, front.protocol)}

    def reload_config(self, message: Any, _call: Call | None = None) -> Any:
        """Refused: the models are another server's."""
        raise NotSupported(_NOT_HERE)


class BridgedInference(InferenceService):
    """KServe v2's calls over TensorFlow Serving."""

    def __init__(self, dataplane: RemoteDataplane, models: RemoteModels) -> None:
        super().__init__(dataplane)
        self._models, self._front = models, V2Front()
        self._streams = Streams(self._front, dataplane)
        self._hop = Hop(self._front, dataplane)

    def add_to(self, server: grpc.Server) -> Mapping[str, FastMethod]:
        """Register what carries tensors."""
        handlers = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(lane.ordinary(self._hop)),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._streams),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        return {self._front.method: lane.short_way(self._hop, self._front.protocol)}

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Who this is."""
        return service_pb2.ServerMetadataResponse(name=SERVER_NAME, version=server_version(), extensions=EXTENSIONS)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Whether the version, or any, serves."""
        return service_pb2.ModelReadyResponse(ready=is_model_ready(self._models, request.name, request.version))

    def _not_here(self, request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, _NOT_HERE)

    ModelConfig = ModelStatistics = RepositoryIndex = RepositoryModelLoad = RepositoryModelUnload = _not_here


class BridgeHealth(Health):
    """grpc.health.v1: the bridge as "", the upstream's models by name."""

    def __init__(self, dataplane: RemoteDataplane, models: RemoteModels) -> None:
        super().__init__(dataplane)
        self._models = models
        self._askers = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="health-ask")

    def _statuses(self, services: Collection[str]) -> Mapping[str, int]:
        """One that the upstream is slow to tell holds up no other."""
        return dict(zip(services, self._askers.map(self._status, services), strict=True))

    def _status(self, service: str) -> int:
        if service.startswith(("inference.", "tensorflow.")):
            service = ""
        if not service:
            return super()._status("")
        states = health_pb2.HealthCheckResponse
        return int(states.SERVING if is_model_ready(self._models, service, "") else states.NOT_SERVING)


def is_model_ready(models: RemoteModels, name: str, version: str) -> bool:
    """As the upstream says; no when it does not."""
    try:
        return models.is_model_ready(name, version)
    except ServingError:
        return False


class BridgeRest(RestService):
    """KServe v2 over REST. What asks the upstream for anything but inference must not hold up the event loop."""

    async def model_ready(self, request: Request) -> Response:
        """200 when the version, or any, serves; 404 when the upstream knows none; 503 when nobody answers."""
        return await _elsewhere(super().model_ready, request)

    async def model_metadata(self, request: Request) -> Response:
        """Names, datatypes and shapes of the tensors."""
        return await _elsewhere(super().model_metadata, request)

    async def _not_here(self, request: Request) -> Response:
        raise NotSupported(_NOT_HERE)

    model_config = statistics = index = load = unload = _not_here

    def tfs_routes(self, api: TfsApi) -> list[Route]:
        """TensorFlow Serving's REST API, with health and metrics at the same paths as the other way round."""
        return [
            *TfsRest(api, self._dataplane, self.read_body).routes(),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/metrics", self.metrics),
        ]


async def _elsewhere(handler: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Run a handler that blocks on a thread of the pool, with an event loop of its own."""

    async def run() -> Response:
        return await handler(request)

    return await run_in_threadpool(lambda: asyncio.run(run()))
