"""What is to be written next for one model, from what is seen of it. Pure, level-triggered, with no memory of its own.

A pass says the objects to apply, and only when there are none the objects to remove. Whoever carries it out asks again
with what is there then, until nothing is left; a crash in between changes nothing of the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from atalaya_operator import rollout
from atalaya_operator.desired_state import model_objects, revision_objects
from atalaya_operator.device_choice import Choice
from atalaya_operator.kinds import OWNED
from atalaya_operator.manifests.autoscaler import SCALERS, bounds
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import FIELD_MANAGER, REVISION_LABEL
from atalaya_operator.observed import ObjectKey, Seen, object_key
from atalaya_operator.ownership import controller_uid, is_applied, is_leaving, owns
from atalaya_operator.plan import is_foreign
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Manifest, Revision
from atalaya_spec.inference_model import InferenceModel

HANDOVER_MANAGER = f"{FIELD_MANAGER}-replicas"
"""Holds a Deployment's `replicas` between us and an autoscaler; without a holder the API server sets them to 1."""
_KINDS = frozenset(kind.name for kind in OWNED)


@dataclass(frozen=True)
class Target:
    """What a model asks for now: a valid spec, and what was decided for it."""

    subject: Subject
    revision: Revision
    platform: Platform
    choice: Choice | None = None
    """Of its device, where there was one to make."""


@dataclass(frozen=True)
class Apply:
    """One server-side apply."""

    manifest: Manifest
    manager: str = FIELD_MANAGER


@dataclass(frozen=True)
class Step:
    """What is to be written next, in this order."""

    applies: tuple[Apply, ...] = ()
    removals: tuple[Manifest, ...] = ()


def next_step(target: Target, seen: Seen) -> Step:
    """What is to be done; an empty step when all is as it should be.

    A Deployment that starts with a number of ours is handed over before its autoscaler is made: what that sets in its
    first moments would else be set back.
    """
    wanted = wanted_objects(target, seen)
    hands_over_first = any("replicas" in one["spec"] for one in wanted if _is_new(one, seen))
    now = [one for one in wanted if not (hands_over_first and one["kind"] in SCALERS)]
    applies = tuple(apply for manifest in now for apply in _applies(manifest, seen.objects))
    return Step(applies) if applies else Step(removals=tuple(_removals(target, seen, wanted)))


def missing(target: Target, seen: Seen) -> list[Manifest]:
    """Wanted objects that are not seen: before they are made, what stands there under their names is to be asked."""
    return [one for one in wanted_objects(target, seen) if object_key(one) not in seen.objects]


def in_the_way(target: Target, seen: Seen) -> list[Manifest]:
    """Objects of a name that is needed and that belong to somebody else."""
    found = (seen.objects.get(object_key(one)) for one in wanted_objects(target, seen))
    return [one for one in found if one is not None and belongs_to_another(one, target.subject)]


def belongs_to_another(found: Manifest, subject: Subject) -> bool:
    """Whether an object must not be touched: without our labels, or controlled by something else than this model."""
    return is_foreign(found, subject.model) or controller_uid(found) not in ("", subject.uid)


def wanted_objects(target: Target, seen: Seen) -> list[Manifest]:
    """Every object of the model as it is to be now, in the order in which they are needed."""
    subject, one = target.subject, target.revision
    serving = rollout.serving(subject.model.name, seen, subject.uid, one.digest)
    objects = []
    for manifest in model_objects(subject, replace(one, digest=serving)):
        live = seen.objects.get(object_key(manifest))
        if manifest["kind"] == rollout.SERVICE and serving != one.digest and rollout.led_to(live) == serving:
            continue  # it has the ports of the revision that serves, which the spec no longer tells
        objects.append(manifest)
    for manifest in revision_objects(subject, one, target.platform):
        objects.append(_with_start(manifest, subject.model, one, seen.objects) if _is_new(manifest, seen) else manifest)
    return objects


def _is_new(manifest: Manifest, seen: Seen) -> bool:
    return manifest["kind"] == "Deployment" and object_key(manifest) not in seen.objects


def _with_start(
    manifest: Manifest, model: InferenceModel, one: Revision, objects: Mapping[ObjectKey, Manifest]
) -> Manifest:
    """A new Deployment under an autoscaler starts with as many pods as the one that it takes over from.

    The first one with the fewest. None may be both: a pod that is taken away at once would have held a device for it.
    """
    if model.spec.scaling is None or "replicas" in manifest["spec"]:
        return manifest
    there = [
        rollout.desired(found)
        for key, found in objects.items()
        if key.kind == "Deployment" and found["metadata"]["labels"].get(REVISION_LABEL) != one.digest
    ]
    least, most = bounds(model.spec.scaling, one.most_replicas)
    start = min(max([least, *there]), most)
    return {**manifest, "spec": manifest["spec"] | {"replicas": start}} if start != 1 else manifest


def _applies(manifest: Manifest, objects: Mapping[ObjectKey, Manifest]) -> list[Apply]:
    live = objects.get(object_key(manifest))
    if live is None:
        return [Apply(manifest)]
    if is_leaving(live) or is_applied(manifest, live):
        return []
    hands_over = "replicas" not in manifest.get("spec", {}) and owns(live, "spec", "replicas")
    return [*([Apply(_replicas_only(manifest, live), HANDOVER_MANAGER)] if hands_over else []), Apply(manifest)]


def _replicas_only(manifest: Manifest, live: Manifest) -> Manifest:
    identity = {key: manifest["metadata"][key] for key in ("name", "namespace")}
    spec = {"replicas": rollout.desired(live)}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": identity, "spec": spec}


def _removals(target: Target, seen: Seen, wanted: list[Manifest]) -> list[Manifest]:
    """What belongs to the model and is neither wanted nor of the revision that still serves."""
    subject = target.subject
    serving = rollout.serving(subject.model.name, seen, subject.uid, target.revision.digest)
    kept = {object_key(manifest) for manifest in [*wanted, *model_objects(subject, target.revision)]}
    return [
        found
        for key, found in seen.objects.items()
        if key not in kept
        and key.kind in _KINDS
        and controller_uid(found) == subject.uid
        and not is_leaving(found)
        and (serving == target.revision.digest or found["metadata"]["labels"].get(REVISION_LABEL) != serving)
    ]
