"""What is kept of what is told: of a pod and of a node the few fields that are read, of all else nearly all. Pure.

A node tells of its heartbeat and a pod of its addresses; what is left here changes only when something happened,
so that comparing it says whether there is anything to look at.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.revision import Manifest

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
_CONTAINER = ("name", "image", "resources")
_CONTAINER_STATUS = ("name", "ready", "started", "restartCount", "state", "lastState")
_CHANGES_ALWAYS = ("resourceVersion",)
_WORD = 80


def object_essence(found: Manifest) -> Manifest:
    """All but which fields others have set, with one copy of each word: thousands of objects share most of theirs."""
    metadata: Manifest = dict(found["metadata"])
    if "managedFields" in metadata:
        metadata["managedFields"] = [one for one in metadata["managedFields"] if one.get("manager") == FIELD_MANAGER]
    kept: Manifest = _of_shared_words({**found, "metadata": metadata})
    return kept


def pod_essence(pod: Manifest) -> Manifest:
    """Where it runs, what it asks for, and how its containers fare."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    told = _only(status, ("phase", "reason", "message", "startTime"))
    told["conditions"] = _each(status.get("conditions"), _CONDITION)
    for field in ("initContainerStatuses", "containerStatuses"):
        told[field] = _each(status.get(field), _CONTAINER_STATUS)
    asked = _only(spec, ("nodeName", "tolerations"))
    for field in ("initContainers", "containers"):
        asked[field] = _each(spec.get(field), _CONTAINER)
    metadata = _only(pod["metadata"], _METADATA)
    kept: Manifest = _of_shared_words(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": asked, "status": told}
    )
    return kept


def node_essence(node: Manifest) -> Manifest:
    """Whether it works, whom it lets in and what it offers."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready = [one for one in status.get("conditions") or () if one["type"] == "Ready"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _only(node["metadata"], _METADATA),
        "spec": {
            "unschedulable": bool(spec.get("unschedulable")),
            "taints": _each(spec.get("taints"), ("key", "value", "effect")),
        },
        "status": {
            "conditions": _each(ready, _CONDITION),
            "allocatable": dict(status.get("allocatable") or {}),
        },
    }


def is_same(one: Manifest | None, other: Manifest | None) -> bool:
    """Whether two states of an object, as kept here, tell the same."""
    if one is None or other is None:
        return one is other
    same_metadata = _without_version(one["metadata"]) == _without_version(other["metadata"])
    return same_metadata and one["spec"] == other["spec"] and one["status"] == other["status"]


def _of_shared_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(key): _of_shared_words(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_of_shared_words(member) for member in value]
    return sys.intern(value) if isinstance(value, str) and len(value) <= _WORD else value


def _without_version(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in _CHANGES_ALWAYS}


def _each(items: Iterable[Mapping[str, Any]] | None, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_only(one, fields) for one in items or ()]


def _only(given: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: given[field] for field in fields if given.get(field) is not None}
