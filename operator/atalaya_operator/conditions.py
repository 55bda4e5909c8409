"""What is told of a model: its reason, the evidence, the next step, and conditions in the standard shape. Pure.

Every reason is here. `Ready` is what `kubectl wait` waits for: the very spec that was applied serves. `Available` says
whether clients are answered at all, be it by the revision before. `Progressing` says whether waiting helps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from atalaya_operator import rollout, version_words
from atalaya_operator.endpoints import endpoints
from atalaya_operator.manifests.autoscaler import lacking
from atalaya_operator.names import selector, service_name
from atalaya_operator.observed import ObjectKey, Seen
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Manifest
from atalaya_operator.schema import plain
from atalaya_operator.version_lookup import Lookup
from atalaya_spec.inference_model import API_VERSION, KIND, InferenceModel
from atalaya_spec.inference_model_status import FALSE, TRUE, Condition, RevisionStatus, Status
from atalaya_spec.problems import Problem

READY, AVAILABLE, PROGRESSING, AUTOSCALING = "Ready", "Available", "Progressing", "Autoscaling"

SERVING, SCALED_TO_ZERO = "Serving", "ScaledToZero"
STARTING, ROLLING_OUT, PODS_MISSING = "Starting", "RollingOut", "PodsMissing"
STALLED, PODS_REFUSED = "Stalled", "PodsRefused"
INVALID_SPEC, LISTING_VERSIONS = "InvalidSpec", "ListingVersions"
NAME_TAKEN, OBJECT_REFUSED = "NameTaken", "ObjectRefused"
SCALER_MADE, SCALER_MISSING = "ScalerMade", "ScalerMissing"

_LONGEST = 4096
_WAITING_HELPS = (STARTING, ROLLING_OUT, PODS_MISSING, LISTING_VERSIONS)


@dataclass(frozen=True)
class Finding:
    """Why a model is as it is: a reason in one word, the evidence, and what to do where something is to be done."""

    reason: str
    message: str
    next_step: str | None = None


def invalid_spec(problems: Iterable[Problem]) -> Finding:
    """The words of lint."""
    return Finding(
        INVALID_SPEC, " ".join(map(str, problems)), "correct the spec and apply it again; atalaya lint checks it"
    )


def unresolved(known: Lookup, model: InferenceModel) -> Finding:
    """The versions to serve are not known yet, or cannot be known."""
    if known.failure:
        return Finding(known.failure.reason, f"{known.failure.fact}.", known.failure.step)
    return Finding(LISTING_VERSIONS, version_words.doing(model))


def name_taken(found: Iterable[Manifest]) -> Finding:
    """Objects of others stand where ours are to be."""
    named = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in found)
    step = "rename the model, or remove what is in its way"
    return Finding(NAME_TAKEN, f"there already is a {named} that does not belong to this model.", step)


def object_refused(told: str) -> Finding:
    """The API server's words."""
    return Finding(OBJECT_REFUSED, told, "correct what the API server names; it is tried again every half minute")


def progress(target: Target, seen: Seen) -> Finding:
    """How far a model has come whose objects are as they should be."""
    there = rollout.deployments(seen.objects, target.subject.uid)
    new = there.get(target.revision.digest)
    serves = _serving(target, seen) == target.revision.digest
    if new is None:
        return Finding(STARTING, f"Deployment {target.revision.name} is not there yet.")
    wanted, ready = rollout.desired(new), rollout.ready(new)
    counted = f"{ready} of {wanted} pods of {target.revision.name} answer"
    if serves and ready >= wanted and rollout.is_up_to_date(new):
        return Finding(SERVING, f"{counted}.") if wanted else Finding(SCALED_TO_ZERO, "no pods are asked for.")
    if refused := _deployment_condition(new, "ReplicaFailure", TRUE):
        return Finding(PODS_REFUSED, str(refused.get("message", "")), "raise the quota, or ask for less")
    if stalled := _deployment_condition(new, "Progressing", FALSE):
        step = f"kubectl describe pods -l {_selector(target.subject.model.name, target.revision.digest)}"
        return Finding(STALLED, f"{counted}; {stalled.get('message', '')}", step)
    if not serves:
        return Finding(ROLLING_OUT, f"{counted}; the revision before it serves until then.")
    return Finding(PODS_MISSING if ready else STARTING, f"{counted}.")


def status(finding: Finding, seen: Seen, target: Target | None, now: str, versions: Lookup | None = None) -> Manifest:
    """The object to apply to the status subresource. Without a target, what is there is told all the same."""
    metadata = seen.model["metadata"]
    before = seen.model.get("status") or {}
    there = rollout.deployments(seen.objects, metadata["uid"])
    leading = _serving(target, seen) if target else _led_to(seen, metadata["name"])
    serving = there.get(leading)
    desired, ready = (rollout.desired(serving), rollout.ready(serving)) if serving else (0, 0)
    known = {one["name"]: one for one in before.get("revisions") or ()}
    revisions = tuple(_revision(found, known, target, leading) for _, found in sorted(there.items(), key=_newest_first))
    shown = next((one for one in revisions if serving and one.name == serving["metadata"]["name"]), None)
    told = Status(
        observed_generation=metadata["generation"],
        replicas=_pods(serving) if serving else 0,
        ready_replicas=ready,
        ready=f"{ready}/{desired}",
        selector=_selector(metadata["name"], leading),
        device=shown.device if shown else None,
        version=shown.version if shown else None,
        reason=finding.reason,
        message=finding.message[:_LONGEST],
        next_step=finding.next_step[:_LONGEST] if finding.next_step else None,
        conditions=tuple(_conditions(finding, seen, target, is_answered=ready > 0, now=now, versions=versions)),
        revisions=revisions or None,
        resolved=version_words.resolved(versions, before),
        endpoints=endpoints(target.subject, target.revision) if target else None,
    )
    identity = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": identity, "status": plain(told)}


def _conditions(
    finding: Finding, seen: Seen, target: Target | None, *, is_answered: bool, now: str, versions: Lookup | None
) -> Iterable[Condition]:
    serves = finding.reason in (SERVING, SCALED_TO_ZERO) or (finding.reason == PODS_MISSING and is_answered)
    helps = finding.reason in _WAITING_HELPS
    made = [
        _condition(READY, serves, finding),
        _condition(AVAILABLE, is_answered, Finding("PodsAnswer" if is_answered else "NoPodAnswers", finding.message)),
        _condition(PROGRESSING, helps or serves, finding),
    ]
    if target and target.subject.model.spec.scaling:
        lacks = " ".join(map(str, lacking(target.subject.model, target.platform)))
        cause = Finding(SCALER_MISSING if lacks else SCALER_MADE, lacks or "an autoscaler owns the replicas.")
        made.append(_condition(AUTOSCALING, not lacks, cause))
    if listed := version_words.verdict(versions):
        made.append(_condition(version_words.VERSIONS_KNOWN, listed[0], Finding(*listed[1:])))
    generation = seen.model["metadata"]["generation"]
    known = {one["type"]: one for one in (seen.model.get("status") or {}).get("conditions") or ()}
    for one in made:
        live = known.get(one.type)
        since = live["lastTransitionTime"] if live and live["status"] == one.status else now
        yield replace(one, last_transition_time=since, observed_generation=generation)


def _condition(kind: str, holds: bool, finding: Finding) -> Condition:
    return Condition(kind, TRUE if holds else FALSE, finding.reason, finding.message[:_LONGEST], "")


def _revision(
    found: Manifest, known: Mapping[str, Mapping[str, Any]], target: Target | None, leading: str
) -> RevisionStatus:
    """What is no longer asked for is told as it was told while it was."""
    name = found["metadata"]["name"]
    before = known.get(name, {})
    containers = found["spec"]["template"]["spec"]["containers"]
    verdict = SERVING if rollout.digest_label(found) == leading else "Waiting"
    if target and name == target.revision.name:
        one = target.revision
        version = ",".join(str(version.number) for version in one.versions)
        digest = ",".join(version.digest for version in one.versions if version.digest) or None
        return RevisionStatus(name, version, digest, one.image, one.device, verdict)
    return RevisionStatus(
        name, before.get("version"), before.get("digest"), containers[0].get("image"), before.get("device"), verdict
    )


def _newest_first(entry: tuple[str, Manifest]) -> tuple[int, str]:
    created = entry[1]["metadata"].get("creationTimestamp", "")
    return -int("".join(filter(str.isdigit, created)) or 0), entry[0]


def _pods(deployment: Manifest) -> int:
    """A Deployment that has no pods in its first moments is told to have those it makes, or each start were a write."""
    there = int((deployment.get("status") or {}).get("replicas") or 0)
    return there or (0 if _deployment_condition(deployment, "ReplicaFailure", TRUE) else rollout.desired(deployment))


def _serving(target: Target, seen: Seen) -> str:
    return rollout.serving(target.subject.model.name, seen.objects, target.subject.uid, target.revision.digest)


def _led_to(seen: Seen, model: str) -> str:
    return rollout.led_to(seen.objects.get(ObjectKey(rollout.SERVICE, service_name(model))))


def _selector(model: str, digest: str) -> str:
    return ",".join(f"{key}={value}" for key, value in selector(model, digest or None).items())


def _deployment_condition(deployment: Manifest, kind: str, value: str) -> Mapping[str, Any] | None:
    for one in (deployment.get("status") or {}).get("conditions") or ():
        if one["type"] == kind and one["status"] == value:
            found: Mapping[str, Any] = one
            return found
    return None
