"""What was made of a spec already: on which device, since when, and since when too few of its pods have a place. Pure.

All of it is read from the Deployment, its pods and the nodes; nothing is remembered. Why a device was chosen stands on
the Deployment, for the reason is gone when somebody asks.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from atalaya_operator import rollout
from atalaya_operator.accelerators import amounts_of, is_ready, ready_condition
from atalaya_operator.device_choice import Choice, Standing
from atalaya_operator.names import (
    DEVICE_REASON_ANNOTATION,
    DEVICE_RETURNS_ANNOTATION,
    DEVICE_SINCE_ANNOTATION,
    DEVICES_TRIED_ANNOTATION,
)
from atalaya_operator.revision import Manifest
from atalaya_spec.server_versions import CPU

_ANNOTATIONS = (
    DEVICE_SINCE_ANNOTATION,
    DEVICE_REASON_ANNOTATION,
    DEVICES_TRIED_ANNOTATION,
    DEVICE_RETURNS_ANNOTATION,
)


def device_of(deployment: Manifest) -> str:
    """The device that its pods ask for."""
    return next(iter(amounts_of(deployment["spec"]["template"]["spec"])), CPU)


def newest(deployments: Iterable[Manifest]) -> Manifest | None:
    """The one that was chosen last; of those of one second the one that tried more."""
    return max(deployments, key=lambda one: (chosen_at(one), len(_tried(one))), default=None)


def standing(
    deployment: Manifest, pods: Iterable[Manifest], nodes: Mapping[str, Manifest], need: int, now: str
) -> Standing:
    """Where a spec stands that has a Deployment. `pods` are those of the Deployment."""
    needed = min(need, rollout.desired(deployment))
    since = short_since(deployment, pods, nodes, needed)
    here_since = chosen_at(deployment)
    return Standing(
        device=device_of(deployment),
        age=seconds_between(here_since, now),
        # What it lacked before it was chosen again does not count.
        short_for=None if since is None else seconds_between(max(since, here_since), now),
        tried=_tried(deployment),
        reason=_annotation(deployment, DEVICE_REASON_ANNOTATION),
        returns_to=_annotation(deployment, DEVICE_RETURNS_ANNOTATION),
    )


def short_since(
    deployment: Manifest, pods: Iterable[Manifest], nodes: Mapping[str, Manifest], needed: int
) -> str | None:
    """Since when fewer pods than needed have a place on a node that works; None while enough have."""
    placed, missed = 0, []
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        if since := _without_place_since(pod, nodes):
            missed.append(since)
        else:
            placed += 1
    if placed >= needed:
        return None
    missed += [_not_made_since(deployment)] * (needed - placed - len(missed))
    # Each of them lost its place, or came without one, at its own time: the count fell below with this one.
    return sorted(missed)[placed + len(missed) - needed]


def seconds_between(earlier: str, later: str) -> float:
    """Between two of Kubernetes' timestamps; never less than nothing."""
    span = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return max(0.0, span.total_seconds())


def chosen_at(deployment: Manifest) -> str:
    """When its device was chosen; one that does not tell was made with it."""
    return _annotation(deployment, DEVICE_SINCE_ANNOTATION) or _created(deployment)


def kept_annotations(choice: Choice, since: str) -> dict[str, str]:
    """What a Deployment is to say of a choice."""
    told = {
        DEVICE_SINCE_ANNOTATION: since,
        DEVICE_REASON_ANNOTATION: choice.reason,
        DEVICES_TRIED_ANNOTATION: ",".join(choice.tried),
        DEVICE_RETURNS_ANNOTATION: choice.returns_to,
    }
    return {key: value for key, value in told.items() if value}


def with_device_annotations(manifest: Manifest, live: Manifest | None) -> Manifest:
    """An object with what the one that is there tells of its device, which no spec says."""
    there = ((live or {}).get("metadata") or {}).get("annotations") or {}
    if not (kept := {key: there[key] for key in _ANNOTATIONS if key in there}):
        return manifest
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **kept}}}


def _created(found: Manifest) -> str:
    return str(found["metadata"]["creationTimestamp"])


def _without_place_since(pod: Manifest, nodes: Mapping[str, Manifest]) -> str | None:
    name = pod["spec"].get("nodeName")
    if not name:
        return _created(pod)
    if name not in nodes or is_ready(nodes[name]):
        return None  # from a node that is gone the cluster removes it soon, and another waits in its place
    told = ready_condition(nodes[name])
    return str((told or {}).get("lastTransitionTime") or _created(pod))


def _not_made_since(deployment: Manifest) -> str:
    """Pods that are not even made: past a quota, or in a Deployment's first moments."""
    for one in (deployment.get("status") or {}).get("conditions") or ():
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            return str(one["lastTransitionTime"])
    return _created(deployment)


def _tried(deployment: Manifest) -> tuple[str, ...]:
    return tuple(filter(None, _annotation(deployment, DEVICES_TRIED_ANNOTATION).split(",")))


def _annotation(deployment: Manifest, key: str) -> str:
    return str((deployment["metadata"].get("annotations") or {}).get(key, ""))
