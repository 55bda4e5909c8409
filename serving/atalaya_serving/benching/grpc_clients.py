"""KServe v2 and the TensorFlow Serving API over gRPC, with bytes in and bytes out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from atalaya_serving.benching.calling import Caller, unusable
from atalaya_serving.benching.errors import CallFailed
from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.datatypes import BYTES, NUMPY, Tensor
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tensors import from_raw, to_raw
from atalaya_serving.tfs import messages as tfs
from atalaya_serving.tfs.tensors import data_type, datatype_of, from_proto

_V2 = "/inference.GRPCInferenceService/"
_PREDICTION = "/tensorflow.serving.PredictionService/"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)
_DEFAULT_SIGNATURE = "serving_default"


class _Grpc:
    """A channel that all callers of a client share, as an application's threads do."""

    def __init__(self, address: str, model: str, version: str, timeout_seconds: float) -> None:
        self._address, self._model, self._version, self._timeout = address, model, version, timeout_seconds
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)

    def _method(self, path: str) -> Callable[[bytes], bytes]:
        method, timeout = self._channel.unary_unary(path), self._timeout

        def call(request: bytes) -> bytes:
            try:
                return bytes(method(request, timeout=timeout))
            except grpc.RpcError as error:
                code = error.code().name
                told = f"{self._address} answers {code} to {path.rpartition('/')[2]}: {error.details()}"
                raise CallFailed(code, told) from error
            except ValueError as error:  # the channel was closed
                raise CallFailed("CANCELLED", f"the connection to {self._address} was closed.") from error

        return call

    def close(self) -> None:
        """See Client."""
        self._channel.close()


class V2Grpc(_Grpc):
    """KServe v2, tensors as raw bytes."""

    def inputs(self) -> list[InputSpec]:
        """See Client."""
        asked = service_pb2.ModelMetadataRequest(name=self._model, version=self._version)
        told = self._method(_V2 + "ModelMetadata")(asked.SerializeToString())
        found = _parsed(service_pb2.ModelMetadataResponse, told, self._address)
        return [InputSpec(one.name, one.datatype, tuple(one.shape)) for one in found.inputs]

    def request(self, given: Mapping[str, tuple[str, Tensor]]) -> bytes:
        """See Client."""
        made = service_pb2.ModelInferRequest(model_name=self._model, model_version=self._version)
        for name, (datatype, tensor) in given.items():
            made.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
            made.raw_input_contents.append(to_raw(datatype, tensor))
        return bytes(made.SerializeToString())

    def outputs(self, answer: bytes) -> Sequence[Tensor]:
        """See Client."""
        response = _parsed(service_pb2.ModelInferResponse, answer, self._address)
        try:
            if response.raw_output_contents:
                pairs = zip(response.outputs, response.raw_output_contents, strict=True)
                return [from_raw(one.name, one.datatype, one.shape, raw) for one, raw in pairs]
            return [_typed(one) for one in response.outputs]
        except (ValueError, KeyError, InvalidRequest) as error:
            raise CallFailed("OK", unusable("OK", self._address, error)) from error

    def caller(self) -> Caller:
        """See Client."""
        return Caller(self._method(_V2 + "ModelInfer"), lambda: None)


class TfsGrpc(_Grpc):
    """The TensorFlow Serving API's Predict, tensors as `tensor_content`."""

    def inputs(self) -> list[InputSpec]:
        """See Client."""
        asked = tfs.GetModelMetadataRequest(metadata_field=["signature_def"])
        _name(asked.model_spec, self._model, self._version)
        told = self._method(_PREDICTION + "GetModelMetadata")(asked.SerializeToString())
        found = _parsed(tfs.GetModelMetadataResponse, told, self._address)
        signatures = tfs.SignatureDefMap.FromString(found.metadata["signature_def"].value).signature_def
        if _DEFAULT_SIGNATURE not in signatures:
            return []
        infos = signatures[_DEFAULT_SIGNATURE].inputs
        return [
            InputSpec(name, datatype_of(info.dtype) or f"type {info.dtype}", _sizes(info))
            for name, info in sorted(infos.items())
        ]

    def request(self, given: Mapping[str, tuple[str, Tensor]]) -> bytes:
        """See Client."""
        made = tfs.PredictRequest()
        _name(made.model_spec, self._model, self._version)
        for name, (datatype, tensor) in given.items():
            made.inputs[name].CopyFrom(_proto(datatype, tensor))
        return bytes(made.SerializeToString())

    def outputs(self, answer: bytes) -> Sequence[Tensor]:
        """See Client."""
        response = _parsed(tfs.PredictResponse, answer, self._address)
        try:
            return [from_proto(name, proto)[1] for name, proto in sorted(response.outputs.items())]
        except InvalidRequest as error:
            raise CallFailed("OK", unusable("OK", self._address, error)) from error

    def caller(self) -> Caller:
        """See Client."""
        return Caller(self._method(_PREDICTION + "Predict"), lambda: None)


def _parsed(kind: Any, answer: bytes, address: str) -> Any:
    try:
        return kind.FromString(answer)
    except DecodeError as error:
        raise CallFailed("OK", unusable("OK", address, error)) from error


def _typed(output: Any) -> Tensor:
    """An output whose values are in `contents`; which field holds them depends on the datatype."""
    fields = [values for _, values in output.contents.ListFields()]
    values = list(fields[0]) if fields else []
    dtype = object if output.datatype == BYTES else NUMPY[output.datatype]
    return np.array(values, dtype).reshape(tuple(output.shape))


def _sizes(info: Any) -> tuple[int, ...]:
    return tuple(int(one.size) for one in info.tensor_shape.dim)


def _name(spec: Any, model: str, version: str) -> None:
    spec.name = model
    if version:
        spec.version.value = int(version)


def _proto(datatype: str, tensor: Tensor) -> Any:
    proto = tfs.TensorProto(dtype=data_type(datatype))
    for size in tensor.shape:
        proto.tensor_shape.dim.add(size=size)
    if datatype == BYTES:
        proto.string_val.extend(tensor.ravel().tolist())
    else:
        proto.tensor_content = np.ascontiguousarray(tensor).tobytes()
    return proto
