"""The server's command line and config file, read once into frozen dataclasses. Flags have OVMS' names and meanings.

A flag that OVMS has not is marked so in its help. An unknown flag ends the server with "did you mean".
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, cast, get_args

from atalaya_serving.batching import Batching, parse_batching
from atalaya_serving.engines.base import Backend, Hint, Precision
from atalaya_serving.errors import SettingsError
from atalaya_serving.flag_values import boolean, channel_arguments, port, positive, seconds
from atalaya_serving.policies import LATEST, VersionPolicy, parse_policy
from atalaya_serving.tfs.flags import TfsSettings, add_flags, tfs_settings

DEFAULT_MAX_MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class ModelSettings:
    """One model to serve. `shapes` maps an input's name ("" for the only one) to fixed dimensions."""

    name: str
    base_path: Path
    policy: VersionPolicy = LATEST
    device: str = "CPU"
    backend: Backend | None = None
    slots: int | None = None
    batch_size: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    batching: Batching | None = None
    unsupported: str = ""
    """What is asked for that would change its answers and is not done here: then no version of it may serve."""


@dataclass(frozen=True)
class Tls:
    """What gRPC shows and asks of its callers, as PEM. With `verify_client` a caller needs a certificate of `ca`."""

    key: bytes
    certificate: bytes
    ca: bytes = b""
    verify_client: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything the server is told. A port of 0 is off."""

    models: tuple[ModelSettings, ...] = ()
    model_repository: Path | None = None
    repository_model: ModelSettings = ModelSettings("", Path())
    """How every model below `model_repository` is served; its name and path are the folder's."""
    grpc_port: int = 9000
    rest_port: int = 8000
    grpc_address: str = "127.0.0.1"
    rest_address: str = "127.0.0.1"
    grpc_threads: int = 32
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = ()
    grpc_socket_path: str = ""
    """A Unix socket that gRPC listens on too."""
    grpc_tls: Tls | None = None
    poll_wait_seconds: float = 0.0
    metrics: bool = True
    cache_dir: Path | None = None
    hint: Hint = "THROUGHPUT"
    precision: Precision = "auto"
    queue_size: int = 128
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    rest_max_requests: int = 256
    rest_body_seconds: float = 30.0
    drain_seconds: float = 30.0
    log_level: str = "INFO"
    log_format: str = "auto"
    backend: Backend = "openvino"
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tfs: TfsSettings = field(default_factory=TfsSettings)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see python -m atalaya_serving --help.")


def _flags() -> argparse.ArgumentParser:
    epilog = "To stand in for another server: ovms[:VERSION] FLAGS…, or tensorflow_model_server[:VERSION] FLAGS…"
    parser = _Parser(prog="python -m atalaya_serving", description=__doc__, allow_abbrev=False, epilog=epilog)
    ports = parser.add_argument_group("where it listens")
    ports.add_argument("--port", type=port, default=9000, help="gRPC port; 0 is off (default 9000)")
    ports.add_argument("--rest_port", type=port, default=8000, help="REST and /metrics port; 0 is off (default 8000)")
    ports.add_argument("--grpc_bind_address", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    ports.add_argument("--rest_bind_address", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    models = parser.add_argument_group("what it serves")
    models.add_argument("--config_path", type=Path, help="JSON file: model_config_list of models")
    models.add_argument("--model_repository", type=Path, help="every model below this folder (not in OVMS)")
    models.add_argument("--model_name", help="name of the one model")
    models.add_argument("--model_path", type=Path, help="its folder, with integer versions below")
    models.add_argument(
        "--model_version_policy", help='{"latest":{"num_versions":1}}, {"specific":{"versions":[1]}}, {"all":{}}'
    )
    models.add_argument(
        "--file_system_poll_wait_seconds",
        type=seconds,
        default=0.0,
        help="look for new versions; 0 is off (default)",
    )
    engine = parser.add_argument_group("how it computes")
    engine.add_argument("--target_device", help="an OpenVINO device (default CPU)")
    engine.add_argument("--nireq", type=positive, help="inferences side by side (default: what OpenVINO finds best)")
    engine.add_argument("--batch_size", help="fix the batch; 0 or auto leaves it free (default)")
    engine.add_argument("--shape", help='fix the shape: "(1,128,128,1)" or {"input": "(1,128,128,1)"}')
    engine.add_argument("--plugin_config", help="OpenVINO properties as JSON")
    engine.add_argument("--cache_dir", type=Path, help="keep compiled models here")
    engine.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16", "f16"),
        default="auto",
        help="inference precision; auto takes what the processor does well (other meaning than in OVMS)",
    )
    engine.add_argument(
        "--backend",
        choices=get_args(Backend),
        default="openvino",
        help="the engine of models that do not name one (default openvino; not in OVMS)",
    )
    limits = parser.add_argument_group("threads and limits")
    limits.add_argument(
        "--grpc_workers",
        type=positive,
        default=1,
        help="taken for OVMS' sake; one listener serves all calls here",
    )
    limits.add_argument(
        "--grpc_max_threads",
        type=positive,
        default=32,
        help="threads for calls other than inference (default 32)",
    )
    limits.add_argument(
        "--rest_workers",
        type=positive,
        default=8,
        help="taken for OVMS' sake; REST calls that block share one pool of threads here",
    )
    limits.add_argument("--grpc_channel_arguments", default="", help="a=1,b=2: arguments of the gRPC server")
    limits.add_argument(
        "--queue_size",
        type=positive,
        default=128,
        help="calls that may wait per version; more get RESOURCE_EXHAUSTED (default 128; not in OVMS)",
    )
    limits.add_argument(
        "--max_message_bytes",
        type=positive,
        default=DEFAULT_MAX_MESSAGE_BYTES,
        help="largest request, after decompression (default 64 MiB; not in OVMS)",
    )
    limits.add_argument(
        "--rest_max_requests",
        type=positive,
        default=256,
        help="REST requests at a time; more get 429; health and metrics are not counted (default 256; not in OVMS)",
    )
    limits.add_argument(
        "--rest_body_seconds",
        type=seconds,
        default=30.0,
        help="time for a request's body, and a second more for each 32 KiB of it; then 408 (default 30; not in OVMS)",
    )
    limits.add_argument(
        "--drain_seconds",
        type=seconds,
        default=30.0,
        help="time for accepted calls after SIGTERM (default 30; not in OVMS)",
    )
    told = parser.add_argument_group("what it tells")
    told.add_argument(
        "--metrics_enable",
        nargs="?",
        const=True,
        default=True,
        type=boolean,
        help="/metrics (default true)",
    )
    told.add_argument(
        "--log_level", default="INFO", type=str.upper, choices=("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
    )
    told.add_argument(
        "--log_format",
        default="auto",
        choices=("auto", "json", "plain"),
        help="auto: plain on a terminal (not in OVMS)",
    )
    add_flags(parser)
    return parser


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Read a command line. Raises SettingsError in one line; prints help and exits on --help."""
    parser = _flags()
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise SettingsError(_unknown(unknown[0], parser))
    if given.port == 0 and given.rest_port == 0:
        raise SettingsError("--port 0 and --rest_port 0 leave nothing to listen on; give one of them a port.")
    if given.port and given.port == given.rest_port and given.grpc_bind_address == given.rest_bind_address:
        raise SettingsError(f"--port and --rest_port are both {given.port}; give them different ports.")
    models, labels = _models(given)
    return Settings(
        models=models,
        labels=labels,
        model_repository=given.model_repository,
        repository_model=_model_by_flags(given, "every model", given.model_repository or Path()),
        grpc_port=given.port,
        rest_port=given.rest_port,
        grpc_address=given.grpc_bind_address,
        rest_address=given.rest_bind_address,
        grpc_threads=given.grpc_max_threads,
        grpc_channel_arguments=channel_arguments(given.grpc_channel_arguments),
        poll_wait_seconds=given.file_system_poll_wait_seconds,
        metrics=given.metrics_enable,
        cache_dir=given.cache_dir,
        precision=given.precision,
        queue_size=given.queue_size,
        max_message_bytes=given.max_message_bytes,
        rest_max_requests=given.rest_max_requests,
        rest_body_seconds=given.rest_body_seconds,
        drain_seconds=given.drain_seconds,
        log_level="DEBUG" if given.log_level == "TRACE" else given.log_level,
        log_format=given.log_format,
        backend=given.backend,
        tfs=tfs_settings(given),
    )


def _unknown(flag: str, parser: argparse.ArgumentParser) -> str:
    name = flag.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    near = get_close_matches(name, known, n=1)
    return f"unknown flag {name}; " + (f"did you mean {near[0]}?" if near else "see python -m atalaya_serving --help.")


def _models(given: argparse.Namespace) -> tuple[tuple[ModelSettings, ...], Mapping[str, Mapping[str, int]]]:
    """The models, and the version labels, which only TensorFlow Serving's config knows."""
    sources = [given.config_path, given.model_path or given.model_name, given.model_repository, given.model_config_file]
    if sum(source is not None for source in sources) != 1:
        raise SettingsError(
            "give one of --config_path, --model_config_file, --model_repository, or --model_name with --model_path."
        )
    own = [flag for flag in _MODEL_FLAGS if getattr(given, flag) is not None]
    if own and (given.config_path or given.model_config_file):
        file = "--config_path" if given.config_path else "--model_config_file"
        raise SettingsError(f"--{own[0]} does not go with {file}; put {own[0]} into the model's entry there.")
    if given.model_config_file:
        from atalaya_serving.tfs.model_config import read_model_config

        told = read_model_config(given.model_config_file)
        return told.models, told.labels
    if given.config_path:
        return models_from_config(given.config_path), {}
    if given.model_repository:
        return (), {}
    if not (given.model_name and given.model_path):
        raise SettingsError("--model_name and --model_path go together; give both.")
    return (_model_by_flags(given, given.model_name, given.model_path),), {}


_MODEL_FLAGS = ("model_version_policy", "target_device", "nireq", "batch_size", "shape", "plugin_config")


def _model_by_flags(given: argparse.Namespace, name: str, path: Path) -> ModelSettings:
    flags = {flag: getattr(given, flag) for flag in _MODEL_FLAGS}
    for flag in ("model_version_policy", "plugin_config"):
        flags[flag] = flags[flag] and _json(f"--{flag}", flags[flag])
    entry = {key: value for key, value in flags.items() if value is not None}
    return model_of_entry(entry | {"name": name, "base_path": str(path)}, "the command line", Path.cwd())


def models_from_config(path: Path) -> tuple[ModelSettings, ...]:
    """Read OVMS' config file. Raises SettingsError that names the file and the entry."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry["config"] for entry in raw["model_config_list"]]
        if strange := [entry for entry in entries if not isinstance(entry, dict)]:
            raise TypeError(f"a config is {strange[0]!r}, not an object")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; correct --config_path.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"{path} is no config file ({error}); it is"
            ' {"model_config_list": [{"config": {"name": …, "base_path": …}}]}.'
        ) from error
    models = tuple(model_of_entry(entry, f"{path}, entry {index}", path.parent) for index, entry in enumerate(entries))
    names = [model.name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"{path} names model {twice[0]!r} twice; give each model one entry.")
    return models


_MODEL_KEYS = (
    "name", "base_path", "model_version_policy", "target_device", "nireq", "batch_size", "shape", "plugin_config",
    "backend", "batching",
)  # fmt: skip


def model_of_entry(entry: Mapping[str, Any], where: str, relative_to: Path) -> ModelSettings:
    """Read one model's entry of a config file. Raises SettingsError that begins with `where`."""
    for key in entry:
        if key not in _MODEL_KEYS:
            near = get_close_matches(key, _MODEL_KEYS, n=1)
            told = f"did you mean {near[0]}?" if near else f"known are {', '.join(_MODEL_KEYS)}."
            raise SettingsError(f"{where}: unknown field {key}; {told}")
    if not entry.get("name") or not entry.get("base_path"):
        raise SettingsError(f"{where} lacks name or base_path; give both.")
    try:
        return ModelSettings(
            name=str(entry["name"]),
            base_path=relative_to / str(entry["base_path"]),
            policy=parse_policy(entry.get("model_version_policy")),
            device=str(entry.get("target_device", "CPU")),
            backend=_backend(entry.get("backend")),
            slots=_count("nireq", entry["nireq"]) if entry.get("nireq") else None,
            batch_size=_batch_size(entry.get("batch_size")),
            shapes=_shapes(entry.get("shape")),
            properties=_properties(entry.get("plugin_config")),
            batching=parse_batching(entry.get("batching")),
        )
    except (ValueError, TypeError, AttributeError, argparse.ArgumentTypeError) as error:
        raise SettingsError(f"{where}: {error}; correct it.") from error


def _backend(value: Any) -> Backend | None:
    if value is not None and value not in get_args(Backend):
        raise ValueError(f"backend {value!r} is none of {', '.join(get_args(Backend))}")
    return cast(Backend | None, value)


def _properties(value: Any) -> dict[str, str]:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f'plugin_config is {value!r}, not an object such as {{"NUM_STREAMS": 1}}')
    return {key: str(property) for key, property in (value or {}).items()}


def _batch_size(value: Any) -> int | None:
    return None if value in (None, "auto", "0", 0) else _count("batch_size", value)


def _count(field: str, value: Any) -> int:
    text = str(value)
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise ValueError(f"{field} is {text[:40]!r}, not a positive integer")
    return int(text)


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"shape is no JSON ({error})") from None
    if value in (None, "auto"):
        return {}
    given = value if isinstance(value, Mapping) else {"": value}
    return {str(name): _dimensions(shape) for name, shape in given.items() if shape != "auto"}


def _dimensions(shape: Any) -> tuple[int, ...]:
    parts = str(shape).strip().strip("()[]").split(",")
    try:
        return tuple(int(part) for part in parts if part.strip())
    except ValueError:
        raise ValueError(f"shape {shape!r} is not like (1,128,128,1)") from None


def _json(flag: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{flag} is no JSON ({error}); quote it for the shell.") from error
