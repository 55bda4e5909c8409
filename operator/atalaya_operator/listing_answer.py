"""What the pod that asks a store for its versions has answered, read from what is kept of it. Pure.

Its last words are the answer, or begin with the reason of a failure (`python -m atalaya_serving fetch --list`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atalaya_operator.names import FETCH_CONTAINER
from atalaya_operator.revision import Manifest, PinnedVersion

UNREAD = "VersionUnresolved"
_FAILED = re.compile(r"(?P<reason>[A-Z][A-Za-z]+): (?P<fact>.+?)(?:; (?P<step>[^;]+?))?\.?", re.DOTALL)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|files:[0-9a-f]{16}")
_HIGHEST, _MOST = 2**31 - 1, 100
_IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff")  # a kubelet tells the one and the other in turn
_STARTS = ("", "ContainerCreating", "PodInitializing", "CrashLoopBackOff")


@dataclass(frozen=True)
class Listed:
    """The versions of a store, highest first; `more` were not told, `at` is when it ended."""

    versions: tuple[PinnedVersion, ...]
    more: int
    at: str


@dataclass(frozen=True)
class Failure:
    """Why a store's versions are not known."""

    reason: str
    fact: str
    step: str


def answer(pod: Manifest) -> Listed | Failure | None:
    """None while there is nothing to tell. A failure is told until the next try has succeeded."""
    status = pod["status"]
    container = _fetching(status.get("containerStatuses") or ())
    state, before = container.get("state") or {}, container.get("lastState") or {}
    ended = state.get("terminated") or {}
    if status.get("phase") == "Succeeded" or (ended and not ended.get("exitCode")):  # the phase is told a moment later
        return _listed(ended, pod)
    if ended or before.get("terminated"):
        return _failed(ended or before["terminated"], pod)
    if status.get("phase") == "Failed":
        told = status.get("message") or status.get("reason") or "the node ended it"
        return Failure(UNREAD, f"pod {_name(pod)} failed: {told}", _describe(pod))
    return _waits(state.get("waiting") or {}, status, pod)


def _fetching(containers: Iterable[Manifest]) -> Manifest:
    """Ours: a mesh may have put others beside it, which do not end with it."""
    return next((one for one in containers if one.get("name") == FETCH_CONTAINER), {})


def _listed(ended: Mapping[str, Any], pod: Manifest) -> Listed | Failure:
    try:
        told = json.loads(ended.get("message") or "")
        numbers = [number for number in told["versions"] if type(number) is int and 1 <= number <= _HIGHEST]
        digests = {key: text for key, text in told["digests"].items() if _DIGEST.fullmatch(text)}
        more = int(told.get("more", 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        return _unread(pod)
    if not numbers:
        return _unread(pod)
    highest = sorted(set(numbers), reverse=True)[:_MOST]
    versions = tuple(PinnedVersion(number, digests.get(str(number), "")) for number in highest)
    return Listed(versions, more, str(ended.get("finishedAt") or ""))


def _unread(pod: Manifest) -> Failure:
    step = "check that its image is atalaya/serving of the operator's own version"
    return Failure(UNREAD, f"the answer of pod {_name(pod)} cannot be read", step)


def _failed(ended: Mapping[str, Any], pod: Manifest) -> Failure:
    lines = [line for line in str(ended.get("message") or "").splitlines() if line.strip()]
    if lines and (found := _FAILED.fullmatch(lines[-1].strip())):
        return Failure(found["reason"], found["fact"], found["step"] or _describe(pod))
    told = lines[-1] if lines else f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode')}"
    return Failure(UNREAD, f"pod {_name(pod)} failed: {told}", _describe(pod))


def _waits(waiting: Mapping[str, Any], status: Mapping[str, Any], pod: Manifest) -> Failure | None:
    why = str(waiting.get("reason", ""))
    if why in _IMAGE_WAITS:
        image = _fetching(pod["spec"].get("containers") or ()).get("image", "")
        return Failure(UNREAD, f"pod {_name(pod)} gets no image {image}", _describe(pod))
    if why not in _STARTS:
        return Failure(UNREAD, f"pod {_name(pod)} does not start: {why}: {waiting.get('message', '')}", _describe(pod))
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return Failure(UNREAD, f"pod {_name(pod)} finds no node: {one.get('message', '')}", _describe(pod))
    return None


def _describe(pod: Manifest) -> str:
    return f"kubectl describe pod {_name(pod)} --namespace {pod['metadata']['namespace']} tells more"


def _name(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])
