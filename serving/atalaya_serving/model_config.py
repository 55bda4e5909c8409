"""A served version told as Triton tells it: ModelConfig and ModelStatistics, for the clients that ask. Pure.

The digest of the version's model files is in the config's parameters as `digest`: no standard field carries it.
"""

from typing import Any

from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2, service_pb2

from atalaya_serving.served import ServedVersion
from atalaya_serving.stats import Totals


def model_config(served: ServedVersion) -> Any:
    """Triton's ModelConfig; as Triton has it, dims lack the batch where that is free (max_batch_size > 0)."""
    specs = (*served.model.inputs, *served.model.outputs)
    is_batched = bool(specs) and all(spec.shape[:1] == (-1,) for spec in specs)
    skip = 1 if is_batched else 0
    platform = served.model.platform.lower()
    config = model_config_pb2.ModelConfig(
        name=served.name,
        platform=platform,
        backend=platform.partition("_")[0],
        max_batch_size=2**16 if is_batched else 0,
    )
    for spec in served.model.inputs:
        config.input.add(name=spec.name, data_type=f"TYPE_{_triton(spec.datatype)}", dims=spec.shape[skip:])
    for spec in served.model.outputs:
        config.output.add(name=spec.name, data_type=f"TYPE_{_triton(spec.datatype)}", dims=spec.shape[skip:])
    config.instance_group.add(
        name=served.name, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=len(served.model.slots)
    )
    config.version_policy.specific.versions.append(served.version)
    told = {"digest": served.digest, "precision": served.model.precision, "version": served.version_text}
    for key, value in told.items():
        config.parameters[key].string_value = value
    return config


def _triton(datatype: str) -> str:
    return "STRING" if datatype == "BYTES" else datatype


def model_statistics(served: ServedVersion) -> Any:
    """Triton's ModelStatistics: counts, and times in nanoseconds."""
    totals = served.stats.snapshot()
    message = service_pb2.ModelStatistics(
        name=served.name,
        version=served.version_text,
        last_inference=int(totals.last_inference_unix * 1000),
        inference_count=totals.rows,
        execution_count=totals.executions,
    )
    _duration(message.inference_stats.success, _succeeded(totals), totals.success_seconds)
    _duration(message.inference_stats.fail, totals.failures, totals.failure_seconds)
    _duration(message.inference_stats.queue, totals.queue_seconds.count, totals.queue_seconds.total_seconds)
    inference = totals.inference_seconds
    _duration(message.inference_stats.compute_infer, inference.count, inference.total_seconds)
    _duration(message.inference_stats.compute_input, inference.count, 0.0)
    _duration(message.inference_stats.compute_output, inference.count, 0.0)
    for rows, (count, seconds) in sorted(totals.batches.items()):
        batch = message.batch_stats.add(batch_size=rows)
        _duration(batch.compute_infer, count, seconds)
    return message


def statistics_dict(served: ServedVersion) -> dict[str, Any]:
    """The same as JSON has it."""
    return _as_dict(model_statistics(served))


def config_dict(served: ServedVersion) -> dict[str, Any]:
    """ModelConfig as JSON has it."""
    return _as_dict(model_config(served))


def _as_dict(message: Any) -> dict[str, Any]:
    told: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return told


def _succeeded(totals: Totals) -> int:
    return sum(count for (_, code), count in totals.requests.items() if code == "OK")


def _duration(message: Any, count: int, seconds: float) -> None:
    message.count = count
    message.ns = int(seconds * 1e9)
