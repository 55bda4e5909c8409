"""Which revision clients are led to. Pure, and with no memory of its own: the Service's selector is the state.

A new revision takes over when it answers as well as the old one does; until then, and if it never does, the old one
serves. Whoever asks after a crash reads the same from the same objects.
"""

from collections.abc import Mapping
from typing import Any

from atalaya_operator.names import REVISION_LABEL, service_name
from atalaya_operator.observed import ObjectKey
from atalaya_operator.ownership import controller_uid, is_leaving
from atalaya_operator.revision import Manifest

SERVICE = "Service"


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


def serving(model: str, objects: Mapping[ObjectKey, Manifest], uid: str, wanted: str) -> str:
    """The digest of the revision that is to serve now, where `wanted` is what the spec asks for."""
    there = deployments(objects, uid)
    old = led_to(objects.get(ObjectKey(SERVICE, service_name(model))))
    if old not in there:  # the Service is new, was removed or was led astray
        answering = [digest for digest, found in there.items() if digest != wanted and ready(found)]
        old = wanted if is_ready(there.get(wanted), None) or not answering else min(answering)
    if old == wanted or is_ready(there.get(wanted), there.get(old)):
        return wanted
    return old


def is_ready(new: Manifest | None, old: Manifest | None) -> bool:
    """Whether as many of the new pods answer as take over from the old ones without loss."""
    if new is None or not is_up_to_date(new):
        return False
    wanted = desired(new)
    return ready(new) >= min(wanted, max(1, ready(old) if old else wanted))


def is_up_to_date(deployment: Manifest) -> bool:
    """Whether its status speaks of what it is told now."""
    observed = (deployment.get("status") or {}).get("observedGeneration", 0)
    return bool(observed >= deployment["metadata"].get("generation", 1))


def desired(deployment: Manifest) -> int:
    """How many pods it is told to have."""
    count = deployment["spec"].get("replicas")
    return 1 if count is None else int(count)


def ready(deployment: Manifest) -> int:
    """How many of its pods answer."""
    return int((deployment.get("status") or {}).get("readyReplicas") or 0)


def digest_label(found: Manifest) -> str:
    """The digest of the revision that an object belongs to."""
    return str(found["metadata"]["labels"].get(REVISION_LABEL, ""))
