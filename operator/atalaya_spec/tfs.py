"""TensorFlow Serving, release by release, as its tagged sources have it (model_servers/main.cc, server.h)."""

from atalaya_spec.model_server import TENSORFLOW_SERVING, Flag, Metrics, ModelServer, Probes, known_to

VERSIONS = ("2.16.1", "2.17.1", "2.18.0", "2.19.1", "2.20.0")

# In the order of the original's usage text. Where its default depends on the processors, there is none here.
_FLAGS = (
    Flag("port", "integer", "8500"),
    Flag("grpc_socket_path"),
    Flag("rest_api_port", "integer", "0"),
    Flag("rest_api_num_threads", "integer"),
    Flag("rest_api_timeout_in_ms", "integer", "30000"),
    Flag("rest_api_enable_cors_support", "bool", "false"),
    Flag("enable_batching", "bool", "false"),
    Flag("allow_version_labels_for_unavailable_models", "bool", "false"),
    Flag("batching_parameters_file"),
    Flag("enable_per_model_batching_parameters", "bool", "false"),
    Flag("model_config_file"),
    Flag("model_config_file_poll_wait_seconds", "integer", "0"),
    Flag("model_name", default="default"),
    Flag("model_base_path"),
    Flag("num_load_threads", "integer", "0"),
    Flag("num_unload_threads", "integer", "0"),
    Flag("max_num_load_retries", "integer", "5"),
    Flag("load_retry_interval_micros", "integer", "60000000"),
    Flag("file_system_poll_wait_seconds", "integer", "1"),
    Flag("flush_filesystem_caches", "bool", "true"),
    Flag("tensorflow_session_parallelism", "integer", "0"),
    Flag("tensorflow_session_config_file"),
    Flag("tensorflow_intra_op_parallelism", "integer", "0"),
    Flag("tensorflow_inter_op_parallelism", "integer", "0"),
    Flag("use_alts_credentials", "bool", "false"),
    Flag("ssl_config_file"),
    Flag("platform_config_file"),
    Flag("per_process_gpu_memory_fraction", "float", "0.000000"),
    Flag("saved_model_tags", default="serve"),
    Flag("grpc_channel_arguments"),
    Flag("grpc_max_threads", "integer"),
    Flag("enable_model_warmup", "bool", "true"),
    Flag("num_request_iterations_for_warmup", "integer", "0"),
    Flag("version", "bool", "false"),
    Flag("monitoring_config_file"),
    Flag("remove_unused_fields_from_bundle_metagraph", "bool", "true"),
    Flag("prefer_tflite_model", "bool", "false"),
    Flag("num_tflite_pools", "integer"),
    Flag("num_tflite_interpreters_per_pool", "integer", "1"),
    Flag("enable_signature_method_name_check", "bool", "false"),
    Flag("xla_cpu_compilation_enabled", "bool", "false"),
    Flag("xla_gpu_compilation_enabled", "bool", "false", since=(2, 18)),
    Flag("enable_profiler", "bool", "true"),
    Flag("thread_pool_factory_config_file"),
    Flag("mixed_precision"),
    Flag("skip_initialize_tpu", "bool", "false"),
    Flag("enable_grpc_healthcheck_service", "bool", "false"),
    Flag("enable_serialization_as_tensor_content", "bool", "false", since=(2, 19)),
)

_METRICS = Metrics(
    path="/monitoring/prometheus/metrics",
    enabled_by="monitoring_config_file",
    labels={
        ":tensorflow:serving:request_count": ("model_name", "status"),
        ":tensorflow:serving:request_latency": ("model_name", "API", "entrypoint"),
        ":tensorflow:serving:runtime_latency": ("model_name", "API", "runtime"),
    },
)


def server(version: str = VERSIONS[-1]) -> ModelServer:
    """What that version knows. A release that is not known is taken as the newest; check_version refuses it before."""
    return ModelServer(
        name="tensorflow",
        program="tensorflow_model_server",
        version=version,
        flags=known_to(_FLAGS, version),
        protocols=(TENSORFLOW_SERVING,),
        grpc_port_flag="port",
        rest_port_flag="rest_api_port",
        grpc_port=8500,
        rest_port=8501,
        probes=Probes(model_ready_path="/v1/models/{model}", grpc_health_flag="enable_grpc_healthcheck_service"),
        metrics=_METRICS,
        storage_schemes=(),
        user_id=None,
        ends_on_unknown_flag=False,
    )
