"""What is told of a model: a finding, and conditions in the standard shape that follow from it. Pure.

`Ready` is what `kubectl wait` waits for: the very spec that was applied serves. `Available` says whether clients are
answered at all, be it by the revision before. `Progressing` says whether waiting helps, `Scheduled` whether the pods
have nodes, `ModelLoaded` whether a server of this spec has its model. Why pods are missing is found in `explain`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from atalaya_operator import device_words, rollout, scaler_words, version_words
from atalaya_operator.device_words import PREFERRED_DEVICE
from atalaya_operator.endpoints import endpoints
from atalaya_operator.explain import reasons
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.reasons import Family
from atalaya_operator.names import selector, service_name
from atalaya_operator.observed import ObjectKey, Seen
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Manifest
from atalaya_operator.schema import plain
from atalaya_operator.version_lookup import Lookup
from atalaya_spec.inference_model import API_VERSION, KIND, InferenceModel
from atalaya_spec.inference_model_status import FALSE, TRUE, UNKNOWN, Condition, RevisionStatus, Status
from atalaya_spec.problems import Problem

READY, AVAILABLE, PROGRESSING = "Ready", "Available", "Progressing"
SCHEDULED, MODEL_LOADED = "Scheduled", "ModelLoaded"
PODS_ANSWER, NO_POD_ANSWERS = "PodsAnswer", "NoPodAnswers"

_LONGEST = 4096


@dataclass(frozen=True)
class Explained:
    """What was found out about pods that are missing: a fault, or else what they are at."""

    fault: Finding | None = None
    doing: str = ""


def invalid_spec(problems: Iterable[Problem]) -> Finding:
    """The words of lint."""
    told = " ".join(map(str, problems))
    return finding(reasons.INVALID_SPEC, told, told)


def unresolved(known: Lookup, model: InferenceModel) -> Finding:
    """The versions to serve are not known yet, or cannot be known."""
    if known.failure is None:
        return finding(reasons.LISTING_VERSIONS, version_words.doing(model))
    word, fact, step = known.failure.reason, known.failure.fact, known.failure.step
    why = reasons.BY_WORD.get(word)
    if why is None:
        return Finding(reasons.VERSION_UNRESOLVED, f"{word}: {fact}.", step, word)
    return Finding(why, f"{fact}.", step, word)


def name_taken(found: Iterable[Manifest]) -> Finding:
    """Objects of others stand where ours are to be."""
    named = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in found)
    return finding(reasons.NAME_TAKEN, f"there already is a {named} that does not belong to this model.", named)


def object_refused(told: str) -> Finding:
    """The API server's words."""
    return finding(reasons.OBJECT_REFUSED, told, told)


def progress(target: Target, seen: Seen, explained: Explained) -> Finding:
    """How far a model has come whose objects are as they should be."""
    new = target_deployment(target, seen)
    serves = _serving(target, seen) == target.revision.digest
    if new is None:
        return finding(reasons.STARTING, f"Deployment {target.revision.name} is not there yet.")
    wanted, ready = rollout.desired(new), rollout.ready(new, seen.pods)
    counted = f"{ready} of {wanted} pods of {target.revision.name} answer"
    if serves and not lacks_pods(target, seen):
        return (
            finding(reasons.SERVING, f"{counted}.")
            if wanted
            else finding(reasons.SCALED_TO_ZERO, "no pods are asked for.")
        )
    meanwhile = "" if serves else "; the revision before it serves until then"
    if explained.fault:
        return replace(explained.fault, message=f"{explained.fault.message} ({counted}{meanwhile}.)")
    if stalled := _condition_of(new, "Progressing", FALSE):
        names = {"namespace": target.subject.namespace,
                 "selector": _selector(target.subject.model.name, target.revision.digest)}  # fmt: skip
        return finding(reasons.STALLED, f"{counted}; {stalled.get('message', '')}", **names)
    doing = f"; {explained.doing}" if explained.doing else ""
    if not serves:
        return finding(reasons.ROLLING_OUT, f"{counted}{doing}{meanwhile}.")
    return finding(reasons.PODS_MISSING if ready else reasons.STARTING, f"{counted}{doing}.")


def lacks_pods(target: Target, seen: Seen) -> bool:
    """Whether there is anything to explain: some pods of the spec do not answer."""
    new = target_deployment(target, seen)
    return new is not None and rollout.ready(new, seen.pods) < rollout.desired(new)


def target_deployment(target: Target, seen: Seen) -> Manifest | None:
    """The Deployment of the revision that the spec asks for."""
    return rollout.deployments(seen.objects, target.subject.uid).get(target.revision.digest)


def status(told: Finding, seen: Seen, target: Target | None, now: str, versions: Lookup | None = None) -> Manifest:
    """The object to apply to the status subresource. Without a target, what is there is told all the same."""
    metadata = seen.model["metadata"]
    before = seen.model.get("status") or {}
    there = rollout.deployments(seen.objects, metadata["uid"])
    leading = _serving(target, seen) if target else _led_to(seen, metadata["name"])
    serving = there.get(leading)
    desired = rollout.desired(serving) if serving else 0
    ready = min(desired, rollout.ready(serving, seen.pods)) if serving else 0  # one too many is about to go
    known = {one["name"]: one for one in before.get("revisions") or ()}
    revisions = tuple(_revision(found, known, target, leading) for _, found in sorted(there.items(), key=_newest_first))
    shown = next((one for one in revisions if serving and one.name == serving["metadata"]["name"]), None)
    told = _with_device(told, target)
    made = Status(
        observed_generation=metadata["generation"],
        replicas=_pods(serving, seen) if serving else 0,
        ready_replicas=ready,
        ready=f"{ready}/{desired}",
        selector=_selector(metadata["name"], leading),
        device=shown.device if shown else None,
        version=shown.version if shown else None,
        reason=told.reason,
        message=told.message[:_LONGEST],
        next_step=told.next_step[:_LONGEST] if told.next_step else None,
        conditions=tuple(_conditions(told, seen, target, is_answered=ready > 0, now=now, versions=versions)),
        revisions=revisions or None,
        resolved=version_words.resolved(versions, before),
        endpoints=endpoints(target.subject, target.revision) if target else None,
    )
    identity = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": identity, "status": plain(made)}


def _conditions(
    told: Finding, seen: Seen, target: Target | None, *, is_answered: bool, now: str, versions: Lookup | None
) -> Iterable[Condition]:
    serves = _serves(told, seen, target, is_answered=is_answered)
    is_rest = told.why in (reasons.SERVING, reasons.SCALED_TO_ZERO)
    made = [
        _condition(READY, serves, told),
        _named(AVAILABLE, is_answered, PODS_ANSWER if is_answered else NO_POD_ANSWERS, told.message),
        _condition(PROGRESSING, is_rest or told.why.family == Family.PROGRESS, told),
        _scheduled(told, target),
        _model_loaded(told, serves=serves),
    ]
    if target and (scales := scaler_words.verdict(target, seen, now)):
        made.append(_named(scaler_words.AUTOSCALING, *scales))
    if target and target.choice:
        preferred = device_words.preference(target.choice, target.subject.model.spec.devices)
        made += [_named(PREFERRED_DEVICE, *preferred)] if preferred else []
    if listed := version_words.verdict(versions):
        made.append(_named(version_words.VERSIONS_KNOWN, *listed))
    generation = seen.model["metadata"]["generation"]
    known = {one["type"]: one for one in (seen.model.get("status") or {}).get("conditions") or ()}
    for one in made:
        live = known.get(one.type)
        since = live["lastTransitionTime"] if live and live["status"] == one.status else now
        yield replace(one, last_transition_time=since, observed_generation=generation)


def _serves(told: Finding, seen: Seen, target: Target | None, *, is_answered: bool) -> bool:
    """Once the spec's own revision serves, one pod that answers keeps it ready, whatever the others lack."""
    if told.why in (reasons.SERVING, reasons.SCALED_TO_ZERO):
        return True
    leads = target is not None and _serving(target, seen) == target.revision.digest
    return leads and is_answered and told.why.family != Family.SPEC


def _scheduled(told: Finding, target: Target | None) -> Condition:
    """Not known in the first moments, so that a pod that gets its node as usual costs no write of its own."""
    is_early = told.why in (reasons.STARTING, reasons.ROLLING_OUT)
    if target is None or told.why.family == Family.SPEC or is_early:
        return replace(_condition(SCHEDULED, False, told), status=UNKNOWN)
    return _condition(SCHEDULED, told.why.family not in (Family.SCHEDULING, Family.NODE), told)


def _model_loaded(told: Finding, *, serves: bool) -> Condition:
    is_loaded = told.why.family == Family.PROBE or (serves and told.why != reasons.SCALED_TO_ZERO)
    return _condition(MODEL_LOADED, is_loaded, told)


def _condition(kind: str, holds: bool, told: Finding) -> Condition:
    return _named(kind, holds, told.reason, told.message)


def _named(kind: str, holds: bool, word: str, message: str) -> Condition:
    return Condition(kind, TRUE if holds else FALSE, word, message[:_LONGEST], "")


def _with_device(told: Finding, target: Target | None) -> Finding:
    """With what its device has to do with it."""
    if target is None or target.choice is None:
        return told
    choice, devices = target.choice, target.subject.model.spec.devices
    is_told = bool(choice.lack) and told.why.family in (Family.SCHEDULING, Family.NODE)
    added = device_words.beside(choice) if is_told else device_words.sentence(choice, devices)
    step = device_words.next_step(choice, devices)
    message = " ".join(filter(None, (told.message, added)))
    return replace(told, message=message, next_step=step if choice.never_fits else told.next_step or step)


def _revision(
    found: Manifest, known: Mapping[str, Mapping[str, Any]], target: Target | None, leading: str
) -> RevisionStatus:
    """What is no longer asked for is told as it was told while it was."""
    name = found["metadata"]["name"]
    before = known.get(name, {})
    containers = found["spec"]["template"]["spec"]["containers"]
    verdict = reasons.SERVING.word if rollout.digest_label(found) == leading else "Waiting"
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


def _pods(deployment: Manifest, seen: Seen) -> int:
    """A Deployment that has no pods in its first moments is told to have those it makes, or each start were a write."""
    there = len(rollout.living(deployment, seen.pods))
    return there or (0 if _condition_of(deployment, "ReplicaFailure", TRUE) else rollout.desired(deployment))


def _serving(target: Target, seen: Seen) -> str:
    return rollout.serving(target.subject.model.name, seen, target.subject.uid, target.revision.digest)


def _led_to(seen: Seen, model: str) -> str:
    return rollout.led_to(seen.objects.get(ObjectKey(rollout.SERVICE, service_name(model))))


def _selector(model: str, digest: str) -> str:
    return ",".join(f"{key}={value}" for key, value in selector(model, digest or None).items())


def _condition_of(found: Manifest, kind: str, value: str) -> Mapping[str, Any] | None:
    for one in (found.get("status") or {}).get("conditions") or ():
        if one["type"] == kind and one["status"] == value:
            told: Mapping[str, Any] = one
            return told
    return None
