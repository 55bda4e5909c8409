"""A revision: one way of running a model, named by a digest of the very pod it runs.

Whatever changes the pod makes another revision, beside the old one; whatever does not (replicas, scaling, labels) makes
none. So nobody has to keep a list of the fields that matter.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIGEST_LENGTH = 10
Manifest = dict[str, Any]


@dataclass(frozen=True)
class PinnedVersion:
    """A version of a model that is to serve, and the digest of its files where that is known."""

    number: int
    digest: str = ""


@dataclass(frozen=True)
class Decisions:
    """What was decided outside the file: which versions `latest` and `all` mean now, and which device is to be had.

    `most_replicas` caps scaling at what the cluster has free of the device. `annotations` are what the Deployment keeps
    of why it is on its device; they are no part of the pod, and so of no digest.
    """

    versions: tuple[PinnedVersion, ...]
    device: str
    most_replicas: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The versions, ascending."""
        return tuple(sorted(version.number for version in self.versions))


@dataclass(frozen=True)
class ServicePort:
    """One port that clients call, the same for every engine, and the pod's port that answers there."""

    name: str
    port: int
    target: int
    is_grpc: bool


@dataclass(frozen=True)
class Revision:
    """All that one revision is. `config` is the files of its ConfigMap, by name; without files there is none."""

    name: str
    digest: str
    image: str
    device: str
    versions: tuple[PinnedVersion, ...]
    template: Manifest = field(repr=False)
    ports: tuple[ServicePort, ...] = ()
    metrics_port: int = 0
    metrics_path: str = ""
    reads_a_store: bool = True
    """Whether its pods call a store on the network."""
    most_replicas: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    """On its Deployment."""


def digest_of(template: Manifest, config: Mapping[str, str]) -> str:
    """The digest that names a revision: ten hex digits of the pod and its files."""
    whole = json.dumps([template, dict(config)], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_LENGTH]
