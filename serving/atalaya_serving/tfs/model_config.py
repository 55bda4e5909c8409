"""TensorFlow Serving's config files, text protos: models with version policies and labels, batching, monitoring.

`model_platform` says "tensorflow" in every file that is written for TensorFlow Serving; here --backend chooses the
engine, so that the same file serves an OpenVINO model, and "openvino" chooses it for one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from atalaya_serving.batching import Batching
from atalaya_serving.engines.base import Backend
from atalaya_serving.errors import SettingsError
from atalaya_serving.policies import ALL, LATEST, VersionPolicy
from atalaya_serving.settings import ModelSettings
from atalaya_serving.tfs.messages import POOL, BatchingParameters, ModelServerConfig, MonitoringConfig

_PLATFORMS: dict[str, Backend | None] = {"": None, "tensorflow": None, "openvino": "openvino"}


@dataclass(frozen=True)
class Configured:
    """What a model config asks for."""

    models: tuple[ModelSettings, ...] = ()
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_model_config(path: Path) -> Configured:
    """Read --model_config_file. Raises SettingsError."""
    return configured(_read(path, ModelServerConfig(), "--model_config_file"))


def read_monitoring_path(path: Path) -> str | None:
    """The path of Prometheus metrics that --monitoring_config_file asks for; None when it is off."""
    config = _read(path, MonitoringConfig(), "--monitoring_config_file").prometheus_config
    return (config.path or "/monitoring/prometheus/metrics") if config.enable else None


def read_batching(path: Path) -> Batching:
    """What --batching_parameters_file asks for. Raises SettingsError."""
    told = _read(path, BatchingParameters(), "--batching_parameters_file")
    most = told.max_batch_size.value if told.HasField("max_batch_size") else Batching.max_rows
    allowed = tuple(told.allowed_batch_sizes)
    if most < 1 or told.batch_timeout_micros.value < 0:
        raise SettingsError(f"{path}: max_batch_size is at least 1 and batch_timeout_micros at least 0; correct them.")
    if allowed and (list(allowed) != sorted(set(allowed)) or allowed[0] < 1 or allowed[-1] != most):
        raise SettingsError(f"{path}: allowed_batch_sizes must rise and end with max_batch_size; correct them.")
    if told.pad_variable_length_inputs:
        raise SettingsError(f"{path}: pad_variable_length_inputs is not supported; send inputs of one shape.")
    return Batching(
        most,
        told.batch_timeout_micros.value / 1e6,
        allowed,
        told.num_batch_threads.value or None,
        told.max_enqueued_batches.value * most if told.HasField("max_enqueued_batches") else None,
    )


def configured(config: Any) -> Configured:
    """The models of a ModelServerConfig. Raises SettingsError with TensorFlow Serving's words."""
    if config.WhichOneof("config") == "custom_model_config":
        raise SettingsError("custom_model_config is not supported; write model_config_list.")
    models: list[ModelSettings] = []
    labels: dict[str, dict[str, int]] = {}
    for one in config.model_config_list.config:
        if not one.name:
            raise SettingsError("a model has no name; give it one.")
        if any(model.name == one.name for model in models):
            raise SettingsError(f"Illegal to list model {one.name} multiple times in config list")
        if not (Path(one.base_path).is_absolute() or "://" in one.base_path):
            raise SettingsError(
                f"Expected model {one.name} to have an absolute path or URI; got base_path()={one.base_path}"
            )
        if one.model_platform not in _PLATFORMS:
            raise SettingsError(f"Model {one.name} requests unsupported platform {one.model_platform}")
        backend = _PLATFORMS[one.model_platform]
        models.append(ModelSettings(one.name, Path(one.base_path), _policy(one), backend=backend))
        if one.version_labels:
            labels[one.name] = dict(one.version_labels)
    return Configured(tuple(models), labels)


def _policy(model: Any) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return ALL
    if choice == "specific":
        if not policy.specific.versions:
            raise SettingsError(f"model {model.name} has a specific version policy without versions; name one.")
        return VersionPolicy(specific=tuple(sorted(set(policy.specific.versions))))
    return VersionPolicy(latest=policy.latest.num_versions or 1) if choice == "latest" else LATEST


def _read(path: Path, message: Any, flag: str) -> Any:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message, descriptor_pool=POOL)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; correct {flag}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no text proto ({error}); correct it.") from error
