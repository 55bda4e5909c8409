"""The flags of an `ovms` as our settings, checked as the original checks them, with its words and exit code."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaya_serving.errors import SettingsError
from atalaya_serving.faces.cors import Cors
from atalaya_serving.faces.ended import Ended
from atalaya_serving.faces.ovms_config import CHANGES_ANSWERS, MetricsChoice, OvmsConfig, model_by_flags, read_config
from atalaya_serving.faces.ovms_flags import EXIT_USAGE
from atalaya_serving.flag_values import channel_arguments
from atalaya_serving.settings import ModelSettings, Settings
from atalaya_serving.tfs.flags import TfsSettings
from atalaya_spec.model_server import ModelServer

EXIT_FAILURE = 1
_MAX_MESSAGE_BYTES = 1 << 30
_QUEUE_SIZE = 10_000
_MAX_PORT = 65_535
_MAX_REST_WORKERS = 10_000
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
_HOST = re.compile(r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_EXCLUSIVE = ("batch_size", "shape", "nireq", "model_version_policy", "target_device", "plugin_config")
_STATEFUL = ("low_latency_transformation", "max_sequence_number", "idle_sequence_cleanup")
# Other programs under the same name: they fetch, convert or write models, or serve language models.
OTHER_WORK = (
    "pull", "source_model", "source_loras", "task", "list_models", "add_to_config", "remove_from_config", "configure"
)  # fmt: skip
_HONOURED = frozenset({
    "help", "version", "port", "grpc_bind_address", "rest_port", "rest_bind_address", "grpc_max_threads", "log_level",
    "log_path", "grpc_channel_arguments", "file_system_poll_wait_seconds", "cache_dir", "metrics_enable",
    "metrics_list", "config_path", "model_name", "model_path", "model_version_policy", "nireq", "target_device",
    "plugin_config", "batch_size", "shape", "allow_credentials", "allowed_origins", "allowed_methods",
    "allowed_headers",
    *CHANGES_ANSWERS,
    *OTHER_WORK,
})  # fmt: skip


@dataclass(frozen=True)
class OvmsStart:
    """What an `ovms` starts with. `families` are the metrics told; `notes` what is accepted without effect."""

    settings: Settings
    server: ModelServer
    families: frozenset[str] = frozenset()
    config_path: Path | None = None
    log_path: Path | None = None
    cors: Cors | None = None
    notes: tuple[str, ...] = ()


def ovms_start(given: Mapping[str, str], server: ModelServer) -> OvmsStart:
    """Raises Ended where the original ends."""
    check(given)
    if other := next((flag for flag in OTHER_WORK if flag in given), ""):
        raise Ended(EXIT_FAILURE, f"--{other} is not offered by this server, which serves models that are there\n")
    try:
        config_path = Path(given["config_path"]) if "config_path" in given else None
        if config_path is not None and config_path.is_dir():
            config_path /= "config.json"
        if config_path is None:
            config = OvmsConfig((model_by_flags(given, server),))
        else:
            config = read_config(config_path, server)
        metrics = MetricsChoice("metrics_enable" in given, _names(given.get("metrics_list", "")))
        chosen = metrics if config_path is None or metrics.is_enabled else config.metrics
        if chosen.is_enabled and not int(given.get("rest_port", "0")):
            raise SettingsError("CLI parameter rest_port is not defined. It must be set to enable metrics")
        families = chosen.families(server)
        settings = _settings(given, config.models)
    except SettingsError as error:
        raise Ended(EXIT_FAILURE, f"Couldn't start model manager: {error}\n") from error
    unused = tuple(f"--{flag}" for flag in given if flag not in _HONOURED)
    log_path = Path(given["log_path"]) if given.get("log_path") else None
    return OvmsStart(settings, server, families, config_path, log_path, _cors(given, server), (*unused, *config.notes))


def check(given: Mapping[str, str]) -> None:
    """The original's own checks of its flags. Raises Ended with its words."""
    port, rest_port = int(given.get("port", "0")), int(given.get("rest_port", "0"))
    cores = os.cpu_count() or 1
    has_config, has_model = "config_path" in given, "model_name" in given or "model_path" in given
    metrics = given.get("metrics_enable") == "true"
    has_other_work = any(flag in given for flag in OTHER_WORK)
    wrong = (
        (has_config and has_model, "Use either config_path or model_path with model_name"),
        (not has_config and not ("model_name" in given and "model_path" in given),
         "Use config_path or model_path with model_name"),
        (has_config and any(given.get(flag) for flag in _EXCLUSIVE),
         "Model parameters in CLI are exclusive with the config file"),
        (not 1 <= int(given.get("grpc_workers", "1")) <= cores,
         f"grpc_workers count should be from 1 to CPU core count : {cores}"),
        (metrics and not rest_port, "rest_port setting is missing, metrics are enabled on rest port"),
        (bool(given.get("metrics_list")) and not metrics,
         "metrics_enable setting is missing, required when metrics_list is provided"),
        (not port and not rest_port, "port and rest_port cannot both be unset"),
        (not 2 <= int(given.get("rest_workers", "2")) <= _MAX_REST_WORKERS,
         f"rest_workers count should be from 2 to {_MAX_REST_WORKERS}"),
        ("rest_workers" in given and not rest_port,
         "rest_workers is set but rest_port is not set. rest_port is required to start rest servers"),
        (port > _MAX_PORT, f"port number out of range from 0 to {_MAX_PORT}"),
        (rest_port > _MAX_PORT, f"rest_port number out of range from 0 to {_MAX_PORT}"),
        (not _is_host(given.get("rest_bind_address", "")),
         "rest_bind_address has invalid format: proper hostname or IP address expected."),
        (not _is_host(given.get("grpc_bind_address", "")),
         "grpc_bind_address has invalid format: proper hostname or IP address expected."),
        (port == rest_port, "port and rest_port cannot have the same values"),
        (bool(given.get("cpu_extension")) and not Path(given["cpu_extension"]).exists(),
         "File path provided as an --cpu_extension parameter does not exist in the filesystem: "
         + given.get("cpu_extension", "")),
        (given.get("log_level", "INFO") not in _LEVELS, f"log_level should be one of: {', '.join(_LEVELS)}"),
        (any(flag in given for flag in _STATEFUL) and given.get("stateful") != "true",
         "Setting low_latency_transformation, max_sequence_number and idle_sequence_cleanup require setting stateful"
         " flag for the model."),
    )  # fmt: skip
    if not has_other_work:
        for is_wrong, words in wrong:
            if is_wrong:
                raise Ended(EXIT_USAGE, f"{words}\n")


def _settings(given: Mapping[str, str], models: tuple[ModelSettings, ...]) -> Settings:
    level = given.get("log_level", "INFO")
    return Settings(
        models=models,
        grpc_port=int(given.get("port", "0")),
        rest_port=int(given.get("rest_port", "0")),
        grpc_address=given.get("grpc_bind_address", "0.0.0.0"),  # noqa: S104 - the original's default
        rest_address=given.get("rest_bind_address", "0.0.0.0"),  # noqa: S104
        grpc_threads=int(given.get("grpc_max_threads", 8 * (os.cpu_count() or 1))),
        grpc_channel_arguments=channel_arguments(given.get("grpc_channel_arguments", "")),
        poll_wait_seconds=float(given.get("file_system_poll_wait_seconds", "1")),
        metrics=False,
        cache_dir=Path(given["cache_dir"]) if given.get("cache_dir") else None,
        hint="LATENCY",
        queue_size=_QUEUE_SIZE,
        rest_max_requests=_QUEUE_SIZE,
        max_message_bytes=_MAX_MESSAGE_BYTES,
        log_level="DEBUG" if level == "TRACE" else level,
        backend="openvino",
        tfs=TfsSettings(derive_signatures=False),
    )


def _cors(given: Mapping[str, str], server: ModelServer) -> Cors | None:
    """On by default in the releases that know it."""
    if "allowed_origins" not in server.flags:
        return None
    told = {kind: _names(given.get(f"allowed_{kind}", "*")) or ("*",) for kind in ("origins", "methods", "headers")}
    return Cors(**told, allows_credentials=given.get("allow_credentials") == "true")


def _names(told: str) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in told.split(",")) if told else None


def _is_host(text: str) -> bool:
    """A host name or an address; the empty one is the default."""
    if not text:
        return True
    if re.fullmatch(r"[0-9.]+", text):
        parts = text.split(".")
        return len(parts) == 4 and all(part.isdecimal() and int(part) < 256 for part in parts)
    return _HOST.fullmatch(text) is not None
