"""What one version of a model server knows: its flags, ports, protocols, probes, metrics, storage.

The shape of the tables in ovms.py and tfs.py. The operator writes pods from it, the server's faces stand in by it; it
knows neither. What a flag does is told where it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

KSERVE_V2, TENSORFLOW_SERVING = "kserve-v2", "tensorflow-serving"

Kind = Literal["string", "integer", "float", "bool"]
Minor = tuple[int, int]


@dataclass(frozen=True)
class Flag:
    """A command-line flag, without its dashes, and the releases that know it. An empty default is none."""

    name: str
    kind: Kind = "string"
    default: str = ""
    since: Minor = (0, 0)
    until: Minor | None = None
    """The last release that knows it; None while it is not gone."""

    def is_known_to(self, version: Minor) -> bool:
        """Whether that release has the flag."""
        return self.since <= version and (self.until is None or version <= self.until)


@dataclass(frozen=True)
class Probes:
    """Where a kubelet may ask. `{model}` stands for the model's name; an empty path is none."""

    live_path: str = ""
    ready_path: str = ""
    model_ready_path: str = ""
    tells_failed_models: bool = False
    """Whether `ready_path` is not ready while a model failed to load."""
    grpc_health_flag: str = ""
    """The flag that switches grpc.health.v1 on; without one the server never has it."""


@dataclass(frozen=True)
class Metrics:
    """Where Prometheus scrapes, what switches it on, and the names with their labels; times are in microseconds."""

    path: str
    enabled_by: str
    labels: Mapping[str, Sequence[str]]
    optional: frozenset[str] = frozenset()
    """Names that are told only when they are asked for."""


@dataclass(frozen=True)
class ModelServer:
    """One version of one original."""

    name: str
    program: str
    version: str
    flags: Mapping[str, Flag]
    protocols: tuple[str, ...]
    grpc_port_flag: str
    rest_port_flag: str
    grpc_port: int
    rest_port: int
    """The ports that its documentation and images use; the flags' defaults may be off."""
    probes: Probes
    metrics: Metrics
    storage_schemes: tuple[str, ...]
    """What a model's path may start with, besides a plain path."""
    user_id: int | None
    """The user its image runs as; None where the image sets none, which is root."""
    ends_on_unknown_flag: bool
    config_reload_path: str = ""


def minor(version: str) -> Minor:
    """The release that a version belongs to: (2026, 2) of 2026.2.1."""
    major, second, *_ = version.split(".")
    return int(major), int(second)


def known_to(flags: Sequence[Flag], version: str) -> dict[str, Flag]:
    """The flags that a version has, by name."""
    release = minor(version)
    return {flag.name: flag for flag in flags if flag.is_known_to(release)}
