"""OpenVINO Model Server, release by release, as its tagged sources have it (src/cli_parser.cpp, docs/metrics.md)."""

from atalaya_spec.model_server import (
    KSERVE_V2,
    TENSORFLOW_SERVING,
    Flag,
    Metrics,
    ModelServer,
    Probes,
    known_to,
    minor,
)

VERSIONS = ("2025.0", "2025.1", "2025.2", "2025.3", "2025.4", "2026.0", "2026.1", "2026.2.1", "2026.3")
_LAST_WITH_TENSORFLOW_SERVING = (2026, 2)

_SERVER = (
    Flag("help", "bool", "false"),
    Flag("version", "bool", "false"),
    Flag("port", "integer", "0"),
    Flag("grpc_bind_address", default="0.0.0.0"),  # noqa: S104 - the original's default, told as it is
    Flag("rest_port", "integer", "0"),
    Flag("rest_bind_address", default="0.0.0.0"),  # noqa: S104
    Flag("grpc_workers", "integer", "1"),
    Flag("grpc_max_threads", "integer"),
    Flag("grpc_memory_quota", "integer"),
    Flag("rest_workers", "integer"),
    Flag("log_level", default="INFO"),
    Flag("log_path"),
    Flag("trace_path"),
    Flag("verbose_response", "bool", "false", since=(2026, 3)),
    Flag("grpc_channel_arguments"),
    Flag("file_system_poll_wait_seconds", "integer", "1"),
    Flag("sequence_cleaner_poll_wait_minutes", "integer", "5", until=(2026, 2)),
    Flag("custom_node_resources_cleaner_interval_seconds", "integer", "300"),
    Flag("cache_dir"),
    Flag("metrics_enable", "bool", "false"),
    Flag("metrics_list"),
    Flag("cpu_extension"),
    Flag("allowed_local_media_path", since=(2025, 2)),
    Flag("allowed_media_domains", since=(2026, 0)),
    Flag("allow_credentials", "bool", "false", since=(2025, 3)),
    Flag("allowed_origins", default="*", since=(2025, 3)),
    Flag("allowed_methods", default="*", since=(2025, 3)),
    Flag("allowed_headers", default="*", since=(2025, 3)),
    Flag("api_key_file", since=(2025, 4)),
    Flag("config_path"),
)
_MODEL = (
    Flag("model_name"),
    Flag("model_path"),
    Flag("batch_size"),
    Flag("shape"),
    Flag("layout"),
    Flag("mean", since=(2026, 0)),
    Flag("scale", since=(2026, 0)),
    Flag("color_format", since=(2026, 0)),
    Flag("precision", since=(2026, 0)),
    Flag("resize", since=(2026, 0), until=(2026, 0)),
    Flag("model_version_policy"),
    Flag("nireq", "integer"),
    Flag("target_device"),
    Flag("plugin_config"),
    Flag("stateful", "bool", "false", until=(2026, 2)),
    Flag("idle_sequence_cleanup", "bool", "true", until=(2026, 2)),
    Flag("low_latency_transformation", "bool", "false", until=(2026, 2)),
    Flag("max_sequence_number", "integer", until=(2026, 2)),
)
# The kinds of the first two changed from a path to a bare word between releases; only that they are there is told.
_TOOLS = (
    Flag("add_to_config", since=(2025, 2)),
    Flag("remove_from_config", since=(2025, 2)),
    Flag("configure", "bool", "false", since=(2026, 3)),
    Flag("list_models", "bool", "false", since=(2025, 2)),
    Flag("pull", "bool", "false", since=(2025, 2)),
    Flag("source_model", since=(2025, 2)),
    Flag("source_loras", since=(2026, 2)),
    Flag("model_repository_path", since=(2025, 2)),
    Flag("overwrite_models", "bool", "false", since=(2025, 2)),
    Flag("task", since=(2025, 2)),
    Flag("gguf_filename", since=(2025, 3)),
    Flag("weight-format", default="int8", since=(2025, 3)),
    Flag("extra_quantization_params", since=(2025, 3)),
    Flag("vocoder", since=(2025, 4), until=(2026, 2)),
)

_CALL = ("api", "interface", "method", "name", "version")
_VERSION = ("name", "version")
_METRICS = Metrics(
    path="/metrics",
    enabled_by="metrics_enable",
    labels={
        "ovms_requests_success": _CALL,
        "ovms_requests_fail": _CALL,
        "ovms_request_time_us": ("interface", *_VERSION),
        "ovms_inference_time_us": _VERSION,
        "ovms_wait_for_infer_req_time_us": _VERSION,
        "ovms_streams": _VERSION,
        "ovms_current_requests": _VERSION,
        "ovms_infer_req_queue_size": _VERSION,
        "ovms_infer_req_active": _VERSION,
        # Of MediaPipe graphs only:
        "ovms_current_graphs": ("name",),
        "ovms_requests_accepted": _CALL[:4],
        "ovms_requests_rejected": _CALL[:4],
        "ovms_responses": _CALL[:4],
    },
    optional=frozenset({"ovms_infer_req_queue_size", "ovms_infer_req_active"}),
)


def server(version: str = VERSIONS[-1]) -> ModelServer:
    """What that version knows. A release that is not known is taken as the newest; check_version refuses it before."""
    speaks_tfs = minor(version) <= _LAST_WITH_TENSORFLOW_SERVING
    return ModelServer(
        name="openvino",
        program="ovms",
        version=version,
        flags=known_to((*_SERVER, *_MODEL, *_TOOLS), version),
        protocols=(KSERVE_V2, TENSORFLOW_SERVING) if speaks_tfs else (KSERVE_V2,),
        grpc_port_flag="port",
        rest_port_flag="rest_port",
        grpc_port=9000,
        rest_port=8000,
        probes=Probes("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready"),
        metrics=_METRICS,
        storage_schemes=("s3", "gs", "az", "azfs"),
        user_id=5000,
        ends_on_unknown_flag=True,
        config_reload_path="/v1/config/reload",
    )
