"""OpenVINO Model Server's config file, as each release reads it: models, and which metrics are told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atalaya_serving.errors import SettingsError
from atalaya_serving.settings import ModelSettings, model_of_entry
from atalaya_spec.model_server import ModelServer

# What would change a model's answers, and is not done here: such a model is not served, and says why.
CHANGES_ANSWERS = (
    "layout", "mean", "scale", "color_format", "precision", "resize", "stateful", "low_latency_transformation",
    "custom_loader_options", "graph_path", "subconfig",
)  # fmt: skip
_HONOURED = (
    "name",
    "base_path",
    "batch_size",
    "shape",
    "model_version_policy",
    "nireq",
    "target_device",
    "plugin_config",
)
_WITHOUT_EFFECT = ("allow_cache", "idle_sequence_cleanup", "max_sequence_number")
_IN_FILES_ONLY = ("name", "base_path", "allow_cache", "custom_loader_options", "graph_path", "subconfig")
_LISTS = (
    "custom_loader_config_list",
    "pipeline_config_list",
    "mediapipe_config_list",
    "custom_node_library_config_list",
)


@dataclass(frozen=True)
class MetricsChoice:
    """Which metrics are told; None of `names` are the default ones."""

    is_enabled: bool = False
    names: tuple[str, ...] | None = None

    def families(self, server: ModelServer) -> frozenset[str]:
        """The names that are told. Raises SettingsError for one that the version does not know."""
        known = server.metrics.labels
        if unknown := [name for name in self.names or () if name not in known]:
            raise SettingsError(f"Metrics family name not supported: {unknown[0]}")
        if not self.is_enabled:
            return frozenset()
        return frozenset(known) - server.metrics.optional if self.names is None else frozenset(self.names)


@dataclass(frozen=True)
class OvmsConfig:
    """What the file says. `notes` are what is accepted and without effect."""

    models: tuple[ModelSettings, ...]
    metrics: MetricsChoice = MetricsChoice()
    notes: tuple[str, ...] = ()


def read_config(path: Path, server: ModelServer) -> OvmsConfig:
    """Read --config_path. Raises SettingsError."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Configuration file is invalid {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"Configuration file {path} is not a valid JSON file: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("model_config_list"), list):
        raise SettingsError(f"Configuration file {path} is not in valid configuration format: no model_config_list")
    known = ("model_config_list", "monitoring", *_LISTS)
    if unknown := [key for key in raw if key not in known]:
        raise SettingsError(f"Configuration file {path} is not in valid configuration format: {unknown[0]}")
    if used := [key for key in _LISTS if raw.get(key)]:
        raise SettingsError(f"{path} has {used[0]}, which this server does not offer; serve the models by themselves")
    entries = [_entry(one, path) for one in raw["model_config_list"]]
    models = tuple(_model(entry, f"{path}, model {entry.get('name')}", path.parent, server) for entry in entries)
    names = [model.name for model in models]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise SettingsError(f"{path} names model {twice!r} twice; give each model one entry")
    notes = tuple(f"{key} of model {entry['name']}" for entry in entries for key in _WITHOUT_EFFECT if entry.get(key))
    return OvmsConfig(models, _metrics(raw.get("monitoring"), path), notes)


def model_by_flags(given: Mapping[str, str], server: ModelServer) -> ModelSettings:
    """The one model of --model_name and --model_path. Raises SettingsError."""
    entry: dict[str, Any] = {"name": given["model_name"], "base_path": str(Path(given["model_path"]).absolute())}
    for key in (*_HONOURED, *CHANGES_ANSWERS):
        if key in given:
            entry[key] = _json(key, given[key]) if key in ("model_version_policy", "plugin_config") else given[key]
    return _model(entry, "the command line", Path.cwd(), server)


def _entry(one: Any, path: Path) -> dict[str, Any]:
    config = one.get("config") if isinstance(one, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise SettingsError(f"Configuration file {path} is not in valid configuration format: a model without a name")
    return config


def _model(entry: Mapping[str, Any], where: str, relative_to: Path, server: ModelServer) -> ModelSettings:
    keys = {key for key in (*_HONOURED, *CHANGES_ANSWERS, *_WITHOUT_EFFECT) if key in server.flags} | {*_IN_FILES_ONLY}
    if unknown := [key for key in entry if key not in keys]:
        raise SettingsError(f"{where}: {unknown[0]} is not in valid configuration format")
    honoured = {key: entry[key] for key in _HONOURED if key in entry}
    if "shape" in honoured:
        honoured.pop("batch_size", None)
    if honoured.get("nireq") in ("0", 0):
        del honoured["nireq"]
    model = model_of_entry(honoured, where, relative_to)
    asked = [key for key in CHANGES_ANSWERS if entry.get(key) not in (None, "", False, "false")]
    if not asked:
        return model
    told = f"{asked[0]} would change the model's answers and is not done by this server; put it into the model itself"
    return replace(model, unsupported=f"{told}, or serve it with {server.program} itself.")


def _metrics(raw: Any, path: Path) -> MetricsChoice:
    if raw is None:
        return MetricsChoice()
    try:
        told = raw["metrics"]
        names = told.get("metrics_list")
        choice = MetricsChoice(told["enable"], None if names is None else tuple(names))
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"Configuration file {path} is not in valid configuration format: monitoring") from error
    return choice


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"Couldn't parse --{key}: {error}") from error
