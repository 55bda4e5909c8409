"""Which versions a spec means by `latest` and `all`: what is known of it, and whether the store is to be asked. Pure.

What was found stands in the model's status, and holds until another answer comes: no restart, no failure and no loss of
the pod that asked changes what serves. The pod itself is the record of when the store was asked last.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from atalaya_operator.listing_answer import Failure, Listed, answer
from atalaya_operator.listing_pod import listing_pod
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import LISTING_LABEL, listing_pod_name
from atalaya_operator.observed import Seen
from atalaya_operator.ownership import is_leaving
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Manifest, PinnedVersion
from atalaya_operator.schema import plain
from atalaya_spec.inference_model import InferenceModel, Versions

_STUCK_SECONDS = 600.0
"""A pod that runs for so long without an answer is made anew."""
_FAILED_SECONDS = 30.0
"""A pod that its node has put out is made anew not before."""


@dataclass(frozen=True)
class Lookup:
    """`versions` is None while they are not known. At most one of `make` and `remove` is to be done now."""

    versions: tuple[PinnedVersion, ...] | None
    question: str = ""
    """A mark of what the store is asked; empty where nothing is."""
    failure: Failure | None = None
    more: int = 0
    make: Manifest | None = None
    remove: Manifest | None = None
    again: float | None = None
    """Seconds after which the store is to be asked again."""


def lookup(subject: Subject, seen: Seen, platform: Platform, now: str) -> Lookup:
    """What is known of a model's versions, and what is to be done to know it."""
    versions, name = subject.model.spec.model.versions, listing_pod_name(subject.model.name)
    live = next((pod for pod in seen.pods if pod["metadata"]["name"] == name), None)
    if versions.specific:
        unneeded = live if live and not is_leaving(live) else None
        return Lookup(tuple(map(PinnedVersion, versions.specific)), remove=unneeded)
    wanted = listing_pod(subject, platform)
    asked = question(subject.model)
    is_ours = live is not None and _label(live) == _label(wanted)
    told = answer(live) if live and is_ours else None
    known = _recorded(seen.model, asked)
    if isinstance(told, Listed):
        known = _chosen(versions, told.versions)
    make, remove, again = _next(live, wanted, told, platform, now)
    return Lookup(
        known,
        asked,
        told if isinstance(told, Failure) else None,
        told.more if isinstance(told, Listed) and versions.all else 0,
        make,
        remove,
        again,
    )


def question(model: InferenceModel) -> str:
    """The same as long as the spec asks the same of the same store."""
    source = model.spec.model
    text = json.dumps([source.uri.text, source.credentials_secret, plain(source.versions)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded(live: Manifest | None, model: InferenceModel) -> tuple[PinnedVersion, ...]:
    """What a model's status in a cluster says of the versions that this spec means; empty when it does not."""
    return _recorded(live or {}, question(model)) or ()


def _recorded(live: Manifest, asked: str) -> tuple[PinnedVersion, ...] | None:
    resolved = (live.get("status") or {}).get("resolved") or {}
    if resolved.get("question") != asked:
        return None
    return tuple(PinnedVersion(one["number"], one.get("digest", "")) for one in resolved["versions"])


def _chosen(asked: Versions, listed: tuple[PinnedVersion, ...]) -> tuple[PinnedVersion, ...]:
    """Ascending, as everything that is made of them."""
    chosen = listed if asked.all else listed[: asked.latest]
    return tuple(sorted(chosen, key=lambda one: one.number))


def _next(
    live: Manifest | None, wanted: Manifest, told: Listed | Failure | None, platform: Platform, now: str
) -> tuple[Manifest | None, Manifest | None, float | None]:
    """The pod to make, the pod to remove, and when to look again."""
    if live is None:
        return wanted, None, None
    if is_leaving(live):
        return None, None, None  # the watch tells when it is gone
    if _label(live) != _label(wanted):
        return None, live, None
    left = _seconds_left(live, told, platform, now)
    if left is None:
        return None, None, None
    return (None, live, None) if left <= 0 else (None, None, left)


def _seconds_left(live: Manifest, told: Listed | Failure | None, platform: Platform, now: str) -> float | None:
    """Until this pod has had its day; None while its kubelet goes on with it."""
    phase, made = live["status"].get("phase"), live["metadata"].get("creationTimestamp", now)
    if isinstance(told, Listed):
        return platform.listing_seconds - _seconds_between(told.at or made, now)
    if phase == "Succeeded":
        return platform.listing_seconds - _seconds_between(made, now)
    if phase == "Failed":
        return _FAILED_SECONDS - _seconds_between(made, now)
    if phase == "Running" and told is None:
        return _STUCK_SECONDS - _seconds_between(made, now)
    return None


def _label(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get(LISTING_LABEL, ""))


def _seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
