"""TensorFlow Serving as the upstream: its models as KServe v2's clients expect them, and its Predict.

KServe v2 has one way to call a model, so one signature is offered: `serving_default`, or another by flag. A version
that is no number is one of TensorFlow Serving's labels.
"""

from collections.abc import Sequence
from typing import Any

from atalaya_serving.bridge import tfs_wire, wire
from atalaya_serving.bridge.remembered import Remembered
from atalaya_serving.bridge.remote import RemoteModel, RemoteModels, remote_version
from atalaya_serving.bridge.tfs_wire import decoded
from atalaya_serving.bridge.upstream import Upstream, answer_of
from atalaya_serving.dataplane import InferRequest
from atalaya_serving.engines.base import DEFAULT_SIGNATURE, Signature, TensorSpec
from atalaya_serving.errors import InvalidRequest, ModelNotFound, NotSupported
from atalaya_serving.model_state import LifeState
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.messages import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    SignatureDefMap,
    VersionState,
)
from atalaya_serving.tfs.predict import SIGNATURE_DEF
from atalaya_serving.tfs.tensors import datatype_of

PREDICTION, MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
PLATFORM = "tensorflow_savedmodel"
_ANSWERS_AT_ALL = (ModelNotFound, InvalidRequest)


class TfsModels(RemoteModels):
    """The upstream's models, asked for by TensorFlow Serving's calls."""

    def __init__(self, upstream: Upstream, signature: str = DEFAULT_SIGNATURE) -> None:
        super().__init__()
        self._upstream, self._signature = upstream, signature
        self._remembered = Remembered()

    def resolve(self, name: str, version: str) -> ServedVersion:
        """The version that answers. Raises ModelNotFound, or what the upstream says."""
        return self._remembered.get(name, version, self._ask)

    def forget(self, name: str) -> None:
        """Ask again next time."""
        self._remembered.forget(name)

    def ready_versions(self, name: str) -> list[int]:
        """The versions that serve, ascending. Raises ServingError."""
        return [state.version for state in self.states(name) if state.state == "AVAILABLE"]

    def states(self, name: str) -> list[LifeState]:
        """Where each version stands. Raises ServingError."""
        told = self._status(name)
        names = VersionState.values_by_number
        return sorted(
            (
                LifeState(one.version, names[one.state].name, one.status.error_message)
                for one in told.model_version_status
            ),
            key=lambda state: state.version,
        )

    def is_model_ready(self, name: str, version: str) -> bool:
        """Whether a version, or with an empty one any, serves. Raises ServingError when nobody answers."""
        try:
            told = self._status(name, version)
        except ModelNotFound:
            return False
        available = VersionState.values_by_name["AVAILABLE"].number
        return any(one.state == available for one in told.model_version_status)

    def is_server_ready(self, seconds: float) -> bool:
        """Whether anybody speaks TensorFlow Serving there: it has no call for that, so one without a model is refused.

        Raises ServingError when nobody answers.
        """
        try:
            self._upstream.ask(f"{MODEL}GetModelStatus", GetModelStatusRequest(), GetModelStatusResponse, seconds)
        except _ANSWERS_AT_ALL:
            return True
        return True

    def _status(self, name: str, version: str = "") -> Any:
        request = GetModelStatusRequest()
        fill_spec(request.model_spec, name, version)
        return self._upstream.ask(f"{MODEL}GetModelStatus", request, GetModelStatusResponse)

    def _ask(self, name: str, version: str) -> ServedVersion:
        request = GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF])
        fill_spec(request.model_spec, name, version)
        told = self._upstream.ask(f"{PREDICTION}GetModelMetadata", request, GetModelMetadataResponse)
        signatures = {
            key: Signature(_specs(one.inputs), _specs(one.outputs), one.method_name)
            for key, one in answer_of(SignatureDefMap, told.metadata[SIGNATURE_DEF].value).signature_def.items()
        }
        chosen = signatures.get(self._signature)
        if chosen is None:
            known = ", ".join(sorted(signatures)) or "none"
            raise NotSupported(
                f"model {name!r} has no signature {self._signature!r}, it has: {known}; start the bridge with"
                " --signature_name."
            )
        model = RemoteModel(chosen.inputs, chosen.outputs, signatures, PLATFORM)
        return remote_version(name, told.model_spec.version.value, model)


class TfsDialect:
    """Predict."""

    infer_method = f"{PREDICTION}Predict"

    def __init__(self, signature: str = DEFAULT_SIGNATURE) -> None:
        self._signature = signature

    def write(self, request: InferRequest) -> list[wire.Part]:
        """A PredictRequest. Raises InvalidRequest."""
        spec = PredictRequest().model_spec
        fill_spec(spec, request.model, request.version)
        spec.signature_name = self._signature
        names = [one.name for one in request.inputs]
        if len(set(names)) < len(names):
            raise InvalidRequest("an input is given twice; give it once.")
        inputs = [(one.name, one.datatype, decoded(one.data)) for one in request.inputs]
        return tfs_wire.write_request(spec, inputs, request.outputs)

    def writes_always_alike(self, request: InferRequest) -> bool:  # noqa: ARG002 - as every dialect has it
        """Always."""
        return True

    def read(self, message: bytes, request: InferRequest) -> tuple[str, int, list[tuple[str, str, Any]]]:
        """Model, version and outputs of a PredictResponse, in the order asked for, else by name: a map has none."""
        head, tensors = tfs_wire.read_response(message)
        order = [name for name in request.outputs if name in tensors] or sorted(tensors)
        return request.model, head.model_spec.version.value, [(name, *tensors[name]) for name in order]


def fill_spec(spec: Any, name: str, version: str) -> None:
    """A ModelSpec of KServe v2's name and version. Raises InvalidRequest."""
    spec.name = name
    if version.isdecimal():
        if int(version) >= 2**63:
            raise ModelNotFound(f"model {name!r} has no version {version}; versions are below 2**63.")
        spec.version.value = int(version)
    elif version:
        spec.version_label = version


def _specs(infos: Any) -> Sequence[TensorSpec]:
    return [_spec(name, info) for name, info in sorted(infos.items())]


def _spec(name: str, info: Any) -> TensorSpec:
    shape = tuple(dim.size for dim in info.tensor_shape.dim)
    is_unknown = info.tensor_shape.unknown_rank
    datatype = datatype_of(info.dtype) or f"TF_TYPE_{info.dtype}"
    return TensorSpec(name, datatype, (-1,) if is_unknown else shape, (), frozenset({info.name}))
