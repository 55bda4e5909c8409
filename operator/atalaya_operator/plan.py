"""What would be made of an InferenceModel, and how it differs from what a cluster has. Writes nothing anywhere.

Without a cluster it is not known which version `latest` means, nor what devices are free: what stands in is told.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from atalaya_operator.desired_state import model_objects, revision, revision_objects
from atalaya_operator.device_standing import with_device_annotations
from atalaya_operator.endpoints import endpoints
from atalaya_operator.kinds import OWNED
from atalaya_operator.manifests.autoscaler import lacking
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import selector
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Decisions, Manifest, PinnedVersion, Revision
from atalaya_operator.version_lookup import recorded
from atalaya_operator.yaml_text import as_yaml
from atalaya_spec.inference_model import API_VERSION, KIND, InferenceModel
from atalaya_spec.inference_model_status import Endpoints
from atalaya_spec.problems import Problem, one_of

CREATED, CHANGED, UNCHANGED, REMOVED = "created", "changed", "unchanged", "removed"
IN_THE_WAY = "in the way"
_WRITTEN_BY_THE_API_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True)
class Wanted:
    """What the caller fixes of what would be decided in the cluster."""

    versions: tuple[PinnedVersion, ...] = ()
    device: str | None = None


@dataclass(frozen=True)
class Plan:
    """The objects of one model, in the order in which they are applied, and what was assumed."""

    model: InferenceModel
    revision: Revision
    objects: tuple[Manifest, ...]
    notes: tuple[Problem, ...]
    endpoints: Endpoints


@dataclass(frozen=True)
class Change:
    """What becomes of one object. `difference` is a unified diff of its YAML."""

    kind: str
    name: str
    verdict: str
    difference: str = ""


class Seen(Protocol):
    """A cluster, as far as a comparison needs it."""

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None: ...
    def trial(self, manifest: Manifest) -> Manifest: ...
    def names(self, api_version: str, kind: str, namespace: str, model: str) -> list[str]: ...


def plan(model: InferenceModel, platform: Platform, wanted: Wanted, uid: str = "") -> Plan:
    """The objects of a model."""
    notes: list[Problem] = []
    versions = wanted.versions or _versions(model, notes)
    device = wanted.device or _device(model, notes)
    one = revision(model, Decisions(versions, device), platform)
    subject = Subject(model, uid)
    objects = (*model_objects(subject, one), *revision_objects(subject, one, platform))
    return Plan(model, one, objects, (*notes, *lacking(model, platform)), endpoints(subject, one))


def known_versions(live: Manifest | None, model: InferenceModel) -> tuple[PinnedVersion, ...]:
    """What `latest` or `all` means in a cluster, as the model's status there tells; empty when it does not.

    What serves there stands in where the question has changed.
    """
    if model.spec.model.versions.specific:
        return ()
    told = str(((live or {}).get("status") or {}).get("version") or "")
    serving = tuple(PinnedVersion(int(part)) for part in told.split(",") if part.strip().isdecimal())
    return recorded(live, model) or serving


def serving_device(live: Manifest | None, model: InferenceModel) -> str | None:
    """The device on which a model serves in a cluster, as its status tells, where the model still names it."""
    told = ((live or {}).get("status") or {}).get("device")
    return str(told) if told in model.spec.devices else None


def live_model(seen: Seen, model: InferenceModel) -> Manifest | None:
    """The model as the cluster has it."""
    return seen.get(API_VERSION, KIND, Subject(model).namespace, model.name)


def changes(planned: Plan, seen: Seen) -> Iterator[Change]:
    """What applying a plan would do to each object, and which objects would go after it."""
    for manifest in planned.objects:
        metadata = manifest["metadata"]
        kind, name = manifest["kind"], metadata["name"]
        before = seen.get(manifest["apiVersion"], kind, metadata["namespace"], name)
        if before is not None and is_foreign(before, planned.model):
            yield Change(kind, name, IN_THE_WAY)
            continue
        after = seen.trial(with_device_annotations(manifest, before))
        if before is None:
            yield Change(kind, name, CREATED)
        elif difference := _difference(_ours(before), _ours(after), f"{kind}/{name}"):
            yield Change(kind, name, CHANGED, difference)
        else:
            yield Change(kind, name, UNCHANGED)
    kept = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in planned.objects}
    namespace = Subject(planned.model).namespace
    for kind in OWNED:
        for name in seen.names(kind.api_version, kind.name, namespace, planned.model.name):
            if (kind.name, name) not in kept:
                yield Change(kind.name, name, REMOVED)


def is_foreign(found: Manifest, model: InferenceModel) -> bool:
    """Whether an object of a name that a model needs is somebody else's, and so must not be touched."""
    labels = found["metadata"].get("labels") or {}
    return not selector(model.name).items() <= labels.items()


def in_namespace(model: InferenceModel, namespace: str) -> InferenceModel:
    """The model where it names no namespace of its own."""
    if model.metadata.namespace:
        return model
    return replace(model, metadata=replace(model.metadata, namespace=namespace))


def _versions(model: InferenceModel, notes: list[Problem]) -> tuple[PinnedVersion, ...]:
    versions = model.spec.model.versions
    if versions.specific:
        return tuple(map(PinnedVersion, versions.specific))
    asked = "all" if versions.all else "latest"
    notes.append(Problem(f"spec.model.versions.{asked}", "which versions these are is found in the store when it is "
                         "applied, so 1 stands here", "name one with --version"))  # fmt: skip
    return (PinnedVersion(1),)


def _device(model: InferenceModel, notes: list[Problem]) -> str:
    first, *others = model.spec.devices
    if others:
        notes.append(Problem("spec.devices", f"{first} is taken if it can be had, else {one_of(others)}",
                             "see another with --device"))  # fmt: skip
    return first


def _ours(manifest: Manifest) -> dict[str, Any]:
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _WRITTEN_BY_THE_API_SERVER}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}


def _difference(before: dict[str, Any], after: dict[str, Any], name: str) -> str:
    old, new = (_lines([manifest]) for manifest in (before, after))
    return "".join(difflib.unified_diff(old, new, f"{name} (now)", f"{name} (planned)"))


def _lines(manifests: Iterable[dict[str, Any]]) -> Sequence[str]:
    return as_yaml(manifests).splitlines(keepends=True)
