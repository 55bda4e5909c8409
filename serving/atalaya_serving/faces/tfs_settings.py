"""The flags of a `tensorflow_model_server` as our settings, checked as the original checks them, with its words."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from google.protobuf import text_format

from atalaya_serving.engines.base import Backend
from atalaya_serving.errors import SettingsError
from atalaya_serving.faces.cors import Cors
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.tfs_flags import EXIT_FAILED, Given
from atalaya_serving.flag_values import channel_arguments
from atalaya_serving.settings import ModelSettings, Settings, Tls
from atalaya_serving.tfs.flags import TfsSettings, read_batching_flags
from atalaya_serving.tfs.messages import POOL, SslConfig
from atalaya_serving.tfs.model_config import Configured, read_model_config, read_monitoring_path
from atalaya_spec.model_server import ModelServer

_MAX_MESSAGE_BYTES = 2**31 - 1
_QUEUE_SIZE = 10_000
_CORS = Cors(methods=("GET", "POST"), headers=("Content-Type",))
# What would change answers, or who may call, and is not done here: the server does not start with it.
REFUSED = {
    "use_alts_credentials": "false",
    "platform_config_file": "",
    "saved_model_tags": "serve",
    "enable_per_model_batching_parameters": "false",
}
_HONOURED = frozenset({
    "port", "grpc_socket_path", "rest_api_port", "enable_batching", "batching_parameters_file", "model_config_file",
    "allow_version_labels_for_unavailable_models", "model_config_file_poll_wait_seconds", "model_name",
    "model_base_path", "max_num_load_retries", "load_retry_interval_micros", "file_system_poll_wait_seconds",
    "tensorflow_session_parallelism", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism",
    "ssl_config_file", "grpc_channel_arguments", "grpc_max_threads", "monitoring_config_file", "version",
    "enable_grpc_healthcheck_service", "rest_api_enable_cors_support", *REFUSED,
})  # fmt: skip


@dataclass(frozen=True)
class TfsStart:
    """What a `tensorflow_model_server` starts with. `metrics_path` is empty where they are off."""

    settings: Settings
    server: ModelServer
    metrics_path: str = ""
    has_health: bool = False
    cors: Cors | None = None
    load_retries: int = 5
    retry_seconds: float = 60.0
    complaint: str = ""
    notes: tuple[str, ...] = ()


def tfs_start(given: Given, server: ModelServer, backend: Backend | None = None) -> TfsStart:
    """Raises Ended where the original ends. Without a `backend`, TensorFlow where it is installed, else OpenVINO."""
    values = {name: flag.default for name, flag in server.flags.items()} | dict(given.values)
    _check(values)
    try:
        configured = _configured(values)
        settings = _settings(values, configured, backend or _backend())
        monitoring = values["monitoring_config_file"]
        metrics_path = read_monitoring_path(Path(monitoring)) if monitoring else None
    except SettingsError as error:
        raise _failed(f"INVALID_ARGUMENT: {error}") from error
    notes = tuple(
        f"--{name}={value}" for name, value in given.values.items()
        if name not in _HONOURED and value != server.flags[name].default
    )  # fmt: skip
    return TfsStart(
        settings,
        server,
        metrics_path or "",
        values["enable_grpc_healthcheck_service"] == "true",
        _CORS if values["rest_api_enable_cors_support"] == "true" else None,
        int(values["max_num_load_retries"]),
        max(0.0, int(values["load_retry_interval_micros"]) / 1e6),
        given.complaint,
        notes,
    )


def _check(values: Mapping[str, str]) -> None:
    if int(values["port"]) == 0 and not values["grpc_socket_path"]:
        raise _failed("INVALID_ARGUMENT: server_options.grpc_port is not set.")
    if not values["model_base_path"] and not values["model_config_file"]:
        raise _failed(
            "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    parallel = [int(values[f"tensorflow_{kind}_parallelism"]) > 0 for kind in ("session", "intra_op", "inter_op")]
    if all(parallel):
        raise _failed(
            "INVALID_ARGUMENT: Either configure server_options.tensorflow_session_parallelism or"
            " (server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism)"
            " separately. You cannot configure all."
        )
    if refused := [name for name, harmless in REFUSED.items() if values[name] != harmless]:
        raise _failed(f"UNIMPLEMENTED: --{refused[0]} is not offered by this server; start it without, or the original")


def _failed(reason: str) -> Ended:
    return Ended(EXIT_FAILED, f"Failed to start server. Error: {reason}\n", is_error=False)


def _configured(values: Mapping[str, str]) -> Configured:
    if values["model_config_file"]:
        configured = read_model_config(Path(values["model_config_file"]))
        if ours := next((model for model in configured.models if model.backend), None):
            raise SettingsError(f"Model {ours.name} requests unsupported platform {ours.backend}")
        return configured
    return Configured((ModelSettings(values["model_name"], Path(values["model_base_path"]).absolute()),))


def _settings(values: Mapping[str, str], configured: Configured, backend: Backend) -> Settings:
    session = int(values["tensorflow_session_parallelism"])
    intra, inter = (int(values[f"tensorflow_{kind}_op_parallelism"]) for kind in ("intra", "inter"))
    both = intra > 0 or inter > 0
    port, rest_port = int(values["port"]), int(values["rest_api_port"])
    file = values["model_config_file"]
    batching_file = values["batching_parameters_file"]
    tfs = TfsSettings(
        model_config_file=Path(file) if file else None,
        model_config_poll_seconds=float(values["model_config_file_poll_wait_seconds"]),
        allow_new_labels=values["allow_version_labels_for_unavailable_models"] == "true",
        intra_op_threads=intra if both else session,
        inter_op_threads=inter if both else session,
        batching=read_batching_flags(
            values["enable_batching"] == "true", Path(batching_file) if batching_file else None
        ),
        derive_signatures=False,
    )
    return Settings(
        models=configured.models,
        labels=configured.labels,
        grpc_port=port,
        rest_port=0 if rest_port == port else rest_port,
        grpc_address="0.0.0.0",  # noqa: S104 - the original has no other
        rest_address="0.0.0.0",  # noqa: S104
        grpc_threads=int(values["grpc_max_threads"] or 4 * (os.cpu_count() or 1)),
        grpc_channel_arguments=channel_arguments(values["grpc_channel_arguments"]),
        grpc_socket_path=values["grpc_socket_path"],
        grpc_tls=_tls(values["ssl_config_file"]),
        poll_wait_seconds=max(0.0, float(values["file_system_poll_wait_seconds"])),
        metrics=False,
        queue_size=_QUEUE_SIZE,
        rest_max_requests=_QUEUE_SIZE,
        max_message_bytes=_MAX_MESSAGE_BYTES,
        backend=backend,
        tfs=tfs,
    )


def _backend() -> Backend:
    return "tensorflow" if find_spec("tensorflow") is not None else "openvino"


def _tls(file: str) -> Tls | None:
    if not file:
        return None
    try:
        told = text_format.Parse(Path(file).read_text(encoding="utf-8"), SslConfig(), descriptor_pool=POOL)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}; correct --ssl_config_file.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no text proto ({error}); correct it.") from error
    return Tls(told.server_key.encode(), told.server_cert.encode(), told.custom_ca.encode(), told.client_verify)
