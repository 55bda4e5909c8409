"""Which revision clients are led to. Pure, and with no memory of its own: the Service's selector is the state.

A new revision takes over when it answers as well as the old one does; until then, and if it never does, the old one
serves. Whoever asks after a crash reads the same from the same objects.

How many pods answer is counted from the pods. A Deployment's own count of them is copied twice before it can be read,
each time by a controller that asks the API server only so often: where many are made at once it is minutes late.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from atalaya_operator.names import REVISION_LABEL, service_name
from atalaya_operator.observed import ObjectKey, Seen
from atalaya_operator.ownership import controller_uid, is_leaving
from atalaya_operator.revision import Manifest

SERVICE = "Service"
_ENDED = ("Succeeded", "Failed")


def deployments(objects: Mapping[ObjectKey, Manifest], uid: str) -> dict[str, Manifest]:
    """A model's Deployments by their revision's digest, without those that go."""
    return {
        found["metadata"]["labels"][REVISION_LABEL]: found
        for key, found in objects.items()
        if key.kind == "Deployment"
        and REVISION_LABEL in found["metadata"]["labels"]
        and controller_uid(found) == uid
        and not is_leaving(found)
    }


def led_to(found: Manifest | None) -> str:
    """The digest of the revision that a Service leads to; empty when it leads to none."""
    selector: Mapping[str, Any] = ((found or {}).get("spec") or {}).get("selector") or {}
    return str(selector.get(REVISION_LABEL, ""))


def serving(model: str, seen: Seen, uid: str, wanted: str) -> str:
    """The digest of the revision that is to serve now, where `wanted` is what the spec asks for."""
    there, pods = deployments(seen.objects, uid), seen.pods
    old = led_to(seen.objects.get(ObjectKey(SERVICE, service_name(model))))
    if old not in there:  # the Service is new, was removed or was led astray
        answering = [digest for digest, found in there.items() if digest != wanted and ready(found, pods)]
        old = wanted if is_ready(there.get(wanted), None, pods) or not answering else min(answering)
    if old == wanted or is_ready(there.get(wanted), there.get(old), pods):
        return wanted
    return old


def is_ready(new: Manifest | None, old: Manifest | None, pods: Iterable[Manifest]) -> bool:
    """Whether as many of the new pods answer as take over from the old ones without loss."""
    if new is None:
        return False
    wanted = desired(new)
    return ready(new, pods) >= min(wanted, max(1, ready(old, pods) if old else wanted))


def desired(deployment: Manifest) -> int:
    """How many pods it is told to have."""
    count = deployment["spec"].get("replicas")
    return 1 if count is None else int(count)


def ready(deployment: Manifest, pods: Iterable[Manifest]) -> int:
    """How many of its pods answer."""
    return sum(_answers(pod) for pod in living(deployment, pods))


def living(deployment: Manifest, pods: Iterable[Manifest]) -> list[Manifest]:
    """Its pods among a model's, without those that go or have ended."""
    digest = digest_label(deployment)
    return [
        pod
        for pod in pods
        if digest_label(pod) == digest and not is_leaving(pod) and pod["status"].get("phase") not in _ENDED
    ]


def _answers(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def digest_label(found: Manifest) -> str:
    """The digest of the revision that an object belongs to."""
    return str((found["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))
