"""What a model's status tells of its autoscaler: whether there is one, and whether it can do its work. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atalaya_operator import device_words
from atalaya_operator.explain.pods import seconds_between
from atalaya_operator.manifests.autoscaler import SCALERS, lacking
from atalaya_operator.observed import ObjectKey, Seen
from atalaya_operator.platform import SCALED_OBJECT
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Manifest
from atalaya_spec.inference_model_status import FALSE

AUTOSCALING = "Autoscaling"
"""The condition: whether something scales the model, where its spec asks for that."""
SCALER_MADE, SCALER_MISSING, SCALER_FAILING = "ScalerMade", "ScalerMissing", "ScalerFailing"
SCALER_IGNORED = "ScalerIgnored"

IGNORED_SECONDS = 60.0
"""A scaler of which nothing was told for so long is one that nobody looks at."""
BLIND_SECONDS = 120.0
"""New pods have no figures for a minute and more; an autoscaler that lacks them for longer lacks more than time."""

Condition = Mapping[str, Any]


@dataclass(frozen=True)
class Trouble:
    """What keeps a scaler from its work; it is told when it has lasted: in `told_in` seconds, or now."""

    word: str
    message: str
    told_in: float = 0.0


def verdict(target: Target, seen: Seen, now: str) -> tuple[bool, str, str] | None:
    """Whether the condition holds, its reason and message; None where the spec asks for no scaling."""
    scaling = target.subject.model.spec.scaling
    if scaling is None:
        return None
    if lacks := " ".join(map(str, lacking(target.subject.model, target.platform))):
        return False, SCALER_MISSING, lacks
    found = _trouble(target, seen, now)
    if found and found.told_in <= 0:
        return False, found.word, found.message
    if bounded := device_words.capped(target.choice, scaling.max):
        return True, device_words.SCALER_CAPPED, bounded
    return True, SCALER_MADE, "an autoscaler owns the replicas."


def look_again(target: Target, seen: Seen, now: str) -> float | None:
    """In how many seconds there may be something to tell of which no watch will tell; None where a change will."""
    found = _trouble(target, seen, now) if target.subject.model.spec.scaling else None
    return found.told_in if found and found.told_in > 0 else None


def _trouble(target: Target, seen: Seen, now: str) -> Trouble | None:
    known = (seen.objects.get(ObjectKey(kind, target.revision.name)) for kind in SCALERS)
    scaler = next((one for one in known if one), None)
    if scaler is None:
        return None
    told: list[Condition] = (scaler.get("status") or {}).get("conditions") or []
    if not told:
        age = seconds_between(scaler["metadata"].get("creationTimestamp", ""), now)
        return Trouble(SCALER_IGNORED, _ignored(scaler), IGNORED_SECONDS - age)
    return _of_keda(scaler, told) if scaler["kind"] == SCALED_OBJECT else _of_kubernetes(scaler, told, now)


def _of_keda(scaler: Manifest, told: list[Condition]) -> Trouble | None:
    """KEDA's condition says little of the cause; its events on the object do."""
    failed = next((one for one in told if one["type"] == "Ready" and one["status"] == FALSE), None)
    if failed is None:
        return None
    step = "ask Prometheus the query that stands there, which must answer one number"
    return Trouble(SCALER_FAILING, f"KEDA says: {failed.get('message', '')}. See {_described(scaler)}; {step}.")


def _of_kubernetes(scaler: Manifest, told: list[Condition], now: str) -> Trouble | None:
    """Kubernetes' own autoscaler; that it rests at zero replicas is no trouble."""
    failed = next((one for one in told if _is_failure(one)), None)
    if failed is None:
        return None
    namespace = scaler["metadata"]["namespace"]
    step = f"metrics-server gives the figures, so that kubectl top pods --namespace {namespace} must answer"
    said = str(failed.get("message", "")).rstrip(".")
    lasted = seconds_between(failed.get("lastTransitionTime", ""), now)
    message = f"Kubernetes' autoscaler says: {said}. See {_described(scaler)}; {step}."
    return Trouble(SCALER_FAILING, message, BLIND_SECONDS - lasted)


def _is_failure(one: Condition) -> bool:
    is_about_work = one["type"] in ("AbleToScale", "ScalingActive")
    return is_about_work and one["status"] == FALSE and one.get("reason") != "ScalingDisabled"


def _ignored(scaler: Manifest) -> str:
    who = "KEDA's operator" if scaler["kind"] == SCALED_OBJECT else "kube-controller-manager"
    where = f"{scaler['kind']} {scaler['metadata']['name']}"
    return (
        f"nobody has told anything of {where} since it was made: {who} is not running, or does not look at this "
        f"namespace. Start it, then see {_described(scaler)}."
    )


def _described(scaler: Manifest) -> str:
    kind, metadata = scaler["kind"].lower(), scaler["metadata"]
    return f"kubectl describe {kind} {metadata['name']} --namespace {metadata['namespace']}"
