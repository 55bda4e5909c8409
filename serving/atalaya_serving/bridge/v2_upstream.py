"""A KServe v2 server as the upstream: its models as TensorFlow Serving's clients expect them, and its inference call.

KServe v2 has one way to call a model: `serving_default`. Its versions are texts; those that are numbers keep them, a
model without one is version 1.
"""

from typing import Any

from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import v2_wire, wire
from atalaya_serving.bridge.remembered import Remembered
from atalaya_serving.bridge.remote import RemoteModel, RemoteModels, remote_version
from atalaya_serving.bridge.tfs_wire import decoded
from atalaya_serving.bridge.upstream import Upstream
from atalaya_serving.dataplane import InferRequest
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, Signature, TensorSpec
from atalaya_serving.errors import ModelNotFound, NotSupported, PreconditionFailed
from atalaya_serving.model_state import LifeState
from atalaya_serving.served import ServedVersion

SERVICE = "/inference.GRPCInferenceService/"
UNVERSIONED = 1
_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING"}


class V2Models(RemoteModels):
    """The upstream's models, asked for by KServe v2's calls."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream
        self._remembered = Remembered()
        self._unversioned: set[str] = set()
        self._has_index = True

    def resolve(self, name: str, version: str) -> ServedVersion:
        """The version that answers. Raises ModelNotFound, or what the upstream says."""
        return self._remembered.get(name, version, self._ask)

    def forget(self, name: str) -> None:
        """Ask again next time."""
        self._remembered.forget(name)

    def version_text(self, name: str, version: str) -> str:
        """How the upstream calls a version."""
        return "" if name in self._unversioned and version == str(UNVERSIONED) else version

    def ready_versions(self, name: str) -> list[int]:
        """The versions that serve, ascending. Raises ServingError."""
        return [state.version for state in self.states(name) if state.state == "AVAILABLE"]

    def states(self, name: str) -> list[LifeState]:
        """Where each version stands: by Triton's index where the upstream has it, else by asking each."""
        if self._has_index and (known := self._indexed(name)):
            return known
        try:
            numbers = self._numbers(name, self._metadata(name, "").versions)
        except ModelNotFound:
            return []
        return [
            LifeState(number, "AVAILABLE" if self.is_model_ready(name, str(number)) else "LOADING")
            for number in numbers
        ]

    def is_model_ready(self, name: str, version: str) -> bool:
        """Whether a version, or with an empty one any, serves."""
        request = service_pb2.ModelReadyRequest(name=name, version=self.version_text(name, version))
        try:
            return bool(self._upstream.ask(f"{SERVICE}ModelReady", request, service_pb2.ModelReadyResponse).ready)
        except ModelNotFound:
            return False

    def is_server_ready(self, seconds: float) -> bool:
        """Whether the upstream says that it wants traffic. Raises ServingError."""
        request, answer = service_pb2.ServerReadyRequest(), service_pb2.ServerReadyResponse
        return bool(self._upstream.ask(f"{SERVICE}ServerReady", request, answer, seconds).ready)

    def _ask(self, name: str, version: str) -> ServedVersion:
        told = self._metadata(name, self.version_text(name, version))
        numbers = self._numbers(name, told.versions)
        inputs, outputs = ([_spec(one) for one in some] for some in (told.inputs, told.outputs))
        signatures = {DEFAULT_SIGNATURE: Signature(inputs, outputs)}
        model = RemoteModel(inputs, outputs, signatures, told.platform)
        return remote_version(name, int(version) if version else numbers[-1], model)

    def _metadata(self, name: str, version: str) -> Any:
        request = service_pb2.ModelMetadataRequest(name=name, version=version)
        return self._upstream.ask(f"{SERVICE}ModelMetadata", request, service_pb2.ModelMetadataResponse)

    def _numbers(self, name: str, versions: Any) -> list[int]:
        numbers = sorted(int(version) for version in versions if version.isdecimal())
        if numbers:
            self._unversioned.discard(name)
        else:
            self._unversioned.add(name)
        return numbers or [UNVERSIONED]

    def _indexed(self, name: str) -> list[LifeState]:
        try:
            index = self._upstream.ask(
                f"{SERVICE}RepositoryIndex", service_pb2.RepositoryIndexRequest(), service_pb2.RepositoryIndexResponse
            )
        except NotSupported:
            self._has_index = False
            return []
        lines = [line for line in index.models if line.name == name and line.version.isdecimal()]
        return [LifeState(int(line.version), _STATES.get(line.state, "END"), line.reason) for line in lines]


class V2Dialect:
    """ModelInfer."""

    infer_method = f"{SERVICE}ModelInfer"

    def __init__(self, models: V2Models) -> None:
        self._models = models

    def write(self, request: InferRequest) -> list[wire.Part]:
        """A ModelInferRequest. Raises PreconditionFailed with TensorFlow Serving's words."""
        if request.signature not in ("", DEFAULT_SIGNATURE):
            raise PreconditionFailed(f'Serving signature key "{request.signature}" not found.')
        inputs = [(one.name, one.datatype, decoded(one.data)) for one in request.inputs]
        version = self._models.version_text(request.model, request.version)
        return v2_wire.write_request(request.model, version, inputs, request.outputs, request.id)

    def writes_always_alike(self, request: InferRequest) -> bool:
        """Not where the upstream knows no versions now: it may some day."""
        return self._models.version_text(request.model, request.version) == request.version

    def read(self, message: bytes, request: InferRequest) -> tuple[str, int, list[tuple[str, str, Any]]]:
        """Model, version and outputs of a ModelInferResponse. Raises InferenceFailed."""
        head, tensors = v2_wire.read_response(message)
        version = head.model_version or request.version
        number = int(version) if version.isdecimal() else UNVERSIONED
        return request.model, number, [(name, *tensor) for name, tensor in tensors.items()]


def _spec(told: Any) -> TensorSpec:
    return TensorSpec(told.name, told.datatype, tuple(told.shape))
