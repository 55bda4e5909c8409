"""The messages of the TensorFlow Serving API, in a descriptor pool of our own.

`descriptors.binpb` is upstream's own FileDescriptorSet (tests/contract/tfs_descriptors.py writes it), so no message is
transcribed by hand. The pool is private because TensorFlow registers the same files in the default one: two
registrations in one process end it. Messages of this pool and TensorFlow's therefore meet as bytes only
(docs/decisions/0210).
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# Small files that the server reads as text protos and the upstream package does not ship: monitoring_config.proto,
# ssl_config.proto and, of session_bundle_config.proto, the batching parameters.
_INT64, _BOOL, _STRING, _MESSAGE = 3, 8, 9, 11
_CONFIG_FILES: dict[str, list[tuple[str, int, str]]] = {
    "PrometheusConfig": [("enable", _BOOL, ""), ("path", _STRING, "")],
    "MonitoringConfig": [("prometheus_config", _MESSAGE, ".tensorflow.serving.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", _STRING, ""),
        ("server_cert", _STRING, ""),
        ("custom_ca", _STRING, ""),
        ("client_verify", _BOOL, ""),
    ],
    "BatchingParameters": [
        ("max_batch_size", _MESSAGE, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", _MESSAGE, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", _MESSAGE, ".google.protobuf.Int64Value"),
        ("num_batch_threads", _MESSAGE, ".google.protobuf.Int64Value"),
        ("thread_pool_name", _MESSAGE, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", _INT64, "repeated"),
        ("pad_variable_length_inputs", _BOOL, ""),
        ("enable_large_batch_splitting", _MESSAGE, ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", _MESSAGE, ".google.protobuf.Int64Value"),
    ],
}


def _config_files() -> descriptor_pb2.FileDescriptorProto:
    made = descriptor_pb2.FileDescriptorProto(
        name="atalaya/tfs_config_files.proto", package="tensorflow.serving", syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )  # fmt: skip
    for name, fields in _CONFIG_FILES.items():
        message = made.message_type.add(name=name)
        for number, (field, kind, detail) in enumerate(fields, start=1):
            added = message.field.add(name=field, number=number, type=kind, label=3 if detail == "repeated" else 1)
            if kind == _MESSAGE:
                added.type_name = detail
    return made


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    shipped = descriptor_pb2.FileDescriptorSet.FromString(files(__package__).joinpath("descriptors.binpb").read_bytes())
    for file in [*shipped.file, _config_files()]:
        pool.Add(file)
    return pool


POOL = _pool()


def _class(name: str) -> Any:
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def _serving(name: str) -> Any:
    return _class(f"tensorflow.serving.{name}")


TensorProto = _class("tensorflow.TensorProto")
TensorInfo = _class("tensorflow.TensorInfo")
SignatureDef = _class("tensorflow.SignatureDef")
SavedModel = _class("tensorflow.SavedModel")
Example = _class("tensorflow.Example")

PredictRequest, PredictResponse = _serving("PredictRequest"), _serving("PredictResponse")
ClassificationRequest, ClassificationResponse = _serving("ClassificationRequest"), _serving("ClassificationResponse")
ClassificationResult, RegressionResult = _serving("ClassificationResult"), _serving("RegressionResult")
RegressionRequest, RegressionResponse = _serving("RegressionRequest"), _serving("RegressionResponse")
MultiInferenceRequest, MultiInferenceResponse = _serving("MultiInferenceRequest"), _serving("MultiInferenceResponse")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")
SignatureDefMap = _serving("SignatureDefMap")
GetModelStatusRequest, GetModelStatusResponse = _serving("GetModelStatusRequest"), _serving("GetModelStatusResponse")
ReloadConfigRequest, ReloadConfigResponse = _serving("ReloadConfigRequest"), _serving("ReloadConfigResponse")
ModelServerConfig = _serving("ModelServerConfig")
MonitoringConfig, BatchingParameters = _serving("MonitoringConfig"), _serving("BatchingParameters")
SslConfig = _serving("SSLConfig")

DataType = POOL.FindEnumTypeByName("tensorflow.DataType")
VersionState = POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")
SERVICES = {
    name: POOL.FindServiceByName(f"tensorflow.serving.{name}") for name in ("PredictionService", "ModelService")
}
