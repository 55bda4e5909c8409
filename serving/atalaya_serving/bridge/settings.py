"""The bridge's command line, read once into a frozen dataclass. Where the server has a flag, it is named alike."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from atalaya_serving.engines.base import DEFAULT_SIGNATURE
from atalaya_serving.errors import SettingsError
from atalaya_serving.flag_values import port, positive, seconds
from atalaya_serving.settings import DEFAULT_MAX_MESSAGE_BYTES, Settings

TFS, V2 = "tfs", "v2"
_OTHER = {TFS: V2, V2: TFS}


@dataclass(frozen=True)
class BridgeSettings:
    """Everything a bridge is told. `listen` has what it shares with a server: ports, limits, logs."""

    upstream: str
    client: str
    """What clients speak: `tfs` or `v2`. The upstream speaks the other one."""
    listen: Settings = field(default_factory=Settings)
    models: tuple[str, ...] = ()
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    signature: str = DEFAULT_SIGNATURE
    watch_seconds: float = 1.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see python -m atalaya_serving bridge --help.")


def _flags() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m atalaya_serving bridge",
        description="Lets clients of one protocol call a server of the other.",
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="client", required=True, choices=(TFS, V2), help="what clients speak")
    parser.add_argument("--to", choices=(V2, TFS), help="what the upstream speaks (default: the other one)")
    parser.add_argument("--upstream", required=True, help="HOST:PORT of its gRPC, for REST clients too")
    parser.add_argument("--port", type=port, default=9000, help="gRPC port; 0 is off (default 9000)")
    parser.add_argument("--rest_port", type=port, default=8000, help="REST and /metrics port; 0 is off (default 8000)")
    parser.add_argument("--grpc_bind_address", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    parser.add_argument("--rest_bind_address", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    parser.add_argument(
        "--model_name", action="append", default=[], help="a model that must serve for the bridge to be ready; repeat"
    )
    parser.add_argument(
        "--version_label",
        action="append",
        default=[],
        metavar="MODEL:LABEL=VERSION",
        help="a label that TensorFlow Serving's clients use (--from tfs); repeat",
    )
    parser.add_argument(
        "--signature_name",
        default=DEFAULT_SIGNATURE,
        help=f"the signature that KServe v2's clients call (--from v2; default {DEFAULT_SIGNATURE})",
    )
    parser.add_argument("--max_message_bytes", type=positive, default=DEFAULT_MAX_MESSAGE_BYTES, help="largest request")
    parser.add_argument(
        "--queue_size",
        type=positive,
        default=1024,
        help="calls on their way; more get RESOURCE_EXHAUSTED (default 1024)",
    )
    parser.add_argument(
        "--drain_seconds", type=seconds, default=30.0, help="time for accepted calls after SIGTERM (default 30)"
    )
    parser.add_argument(
        "--watch_seconds", type=seconds, default=1.0, help="how often the upstream is asked whether it is ready"
    )
    parser.add_argument("--log_level", default="INFO", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--log_format", default="auto", choices=("auto", "json", "plain"))
    return parser


def parse_settings(arguments: Sequence[str]) -> BridgeSettings:
    """Read a command line. Raises SettingsError in one line; prints help and exits on --help."""
    given = _flags().parse_args(arguments)
    _check(given)
    listen = Settings(
        grpc_port=given.port,
        rest_port=given.rest_port,
        grpc_address=given.grpc_bind_address,
        rest_address=given.rest_bind_address,
        max_message_bytes=given.max_message_bytes,
        queue_size=given.queue_size,
        drain_seconds=given.drain_seconds,
        log_level=given.log_level,
        log_format=given.log_format,
    )
    return BridgeSettings(
        given.upstream,
        given.client,
        listen,
        tuple(given.model_name),
        _labels(given.version_label),
        given.signature_name,
        max(given.watch_seconds, 0.05),
    )


def _check(given: argparse.Namespace) -> None:
    other = _OTHER[given.client]
    if given.to not in (None, other):
        raise SettingsError(f"--from {given.client} --to {given.to} needs no bridge; give --to {other}.")
    if given.version_label and given.client == V2:
        raise SettingsError(
            "--version_label is for --from tfs; TensorFlow Serving behind a bridge knows its own labels."
        )
    if given.signature_name != DEFAULT_SIGNATURE and given.client == TFS:
        raise SettingsError("--signature_name is for --from v2; KServe v2 behind a bridge has one way to call a model.")
    host, _, port = given.upstream.rpartition(":")
    if "://" in given.upstream or not (host and port.isdecimal()):
        raise SettingsError(f"--upstream {given.upstream} is not HOST:PORT; give the upstream's gRPC address.")
    if given.port == 0 and given.rest_port == 0:
        raise SettingsError("--port 0 and --rest_port 0 leave nothing to listen on; give one of them a port.")
    if given.port and given.port == given.rest_port and given.grpc_bind_address == given.rest_bind_address:
        raise SettingsError(f"--port and --rest_port are both {given.port}; give them different ports.")


def _labels(given: Sequence[str]) -> dict[str, dict[str, int]]:
    made: dict[str, dict[str, int]] = {}
    for text in given:
        model, _, rest = text.partition(":")
        label, _, version = rest.partition("=")
        if not (model and label and version.isdecimal()):
            raise SettingsError(f"--version_label {text} is not MODEL:LABEL=VERSION, like haiti-damage:stable=3.")
        made.setdefault(model, {})[label] = int(version)
    return made
