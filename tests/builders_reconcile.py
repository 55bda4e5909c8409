"""A cluster in memory for the reconcile: keeps what is applied and who owns which field, and counts every call.

It knows of Kubernetes what the reconcile rests on: server-side apply, defaults, generations, uids. Whatever else a real
API server does is proven on one, in tests/cluster.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

from atalaya_operator.controller import Controller
from atalaya_operator.errors import TryAgain
from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.platform import Platform
from atalaya_spec.inference_model import API_VERSION, KIND

Manifest = dict[str, Any]
KEY = ModelKey("default", "m")
NOW = "2026-01-01T00:00:00Z"
UID = "11111111-1111-1111-1111-111111111111"


def model(**spec: Any) -> Manifest:
    """An InferenceModel as an API server has it."""
    location = {"uri": "s3://models/m", "versions": {"specific": [3]}} | spec.pop("model", {})
    metadata = {"name": "m", "namespace": "default", "uid": UID, "generation": 1, "resourceVersion": "1"}
    document = {"engine": "openvino", "model": location, **spec}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": document}


class FakeCluster:
    """Objects by kind and name in one namespace. `calls` has every call; at `cut_after` of them all fail."""

    def __init__(self, *objects: Manifest) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): copy.deepcopy(one) for one in objects}
        self.pods: list[Manifest] = []
        self.nodes: list[Manifest] = []
        self.told: dict[str, Manifest] = {}
        self.warned: list[Manifest] = []
        self.quotas: dict[str, Manifest] = {}
        self.logs: dict[tuple[str, str], str] = {}
        self.now = NOW
        self.calls: list[str] = []
        self.cut_after: int | None = None
        self.refuse: Callable[[Manifest], None] = lambda manifest: None
        self._versions, self._uids = itertools.count(100), itertools.count(1)

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("get ")]

    @property
    def status(self) -> Manifest:
        """Of the model."""
        return dict(self.objects[KIND, KEY.name]["status"])

    def condition(self, kind: str) -> Manifest:
        """The model's one of this type; empty when there is none."""
        return next((dict(one) for one in self.status["conditions"] if one["type"] == kind), {})

    def get(self, wanted: Manifest) -> Manifest | None:
        self._called("get", wanted)
        return copy.deepcopy(self.objects.get(_key(wanted)))

    def apply(self, manifest: Manifest, manager: str) -> Manifest:
        self.refuse(manifest)
        live = self.objects.setdefault(_key(manifest), {"kind": manifest["kind"], "metadata": {}, "spec": {}})
        metadata = live["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        metadata.setdefault("creationTimestamp", self.now)
        before = _fields_of(live, manager)
        spec = copy.deepcopy(live.get("spec"))
        _remove(live, before, _fields(manifest), [one for one in _all_fields(live) if one is not before])
        _merge(live, copy.deepcopy(manifest))
        if manifest["kind"] == "Deployment":
            live["spec"].setdefault("replicas", 1)
        metadata["generation"] = metadata.get("generation", 0) + (live.get("spec") != spec)
        _own(live, manager, "Apply", _fields(manifest))
        self._changed(live)
        self._called(f"apply as {manager}" if manager != FIELD_MANAGER else "apply", manifest)
        return copy.deepcopy(live)

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        live = self.objects.get(_key(manifest))
        if live is None:
            return None
        live["status"] = copy.deepcopy(manifest["status"])
        _own(live, FIELD_MANAGER, "Apply", {"f:status": _fields(manifest["status"])}, "status")
        self._changed(live)
        self._called("status", manifest)
        return copy.deepcopy(live)

    def tell(self, event: Manifest) -> None:
        self._called("tell", event)
        self.told.setdefault(event["metadata"]["name"], copy.deepcopy(event))

    def warnings(self, namespace: str) -> list[Manifest]:
        self.calls.append("get Events")
        return copy.deepcopy(self.warned)

    def quota(self, namespace: str, name: str) -> Manifest | None:
        self.calls.append(f"get ResourceQuota/{name}")
        return copy.deepcopy(self.quotas.get(name))

    def log_tail(self, namespace: str, pod: str, container: str) -> str:
        self.calls.append(f"get log of {pod}/{container}")
        return self.logs.get((pod, container), "")

    def remove(self, found: Manifest) -> None:
        self.objects.pop(_key(found), None)
        self._without_pods_of(found["metadata"]["name"])
        self._called("remove", found)

    def edit(self, kind: str, name: str, change: Callable[[Manifest], None], *path: str) -> None:
        """Somebody else changes an object; the field at `path` is theirs then."""
        live = self.objects[kind, name]
        change(live)
        for entry in live["metadata"].get("managedFields", ()):
            fields = entry["fieldsV1"]
            for key in path[:-1]:
                fields = fields.get(f"f:{key}", {})
            if path:
                fields.pop(f"f:{path[-1]}", None)
        self._changed(live)

    def names(self, kind: str) -> list[str]:
        return sorted(name for one, name in self.objects if one == kind)

    def pods_answer(self, name: str, ready: int | None = None) -> None:
        """A Deployment has its pods, and so many of them are ready; all of them when none is said."""
        live = self.objects["Deployment", name]
        count = live["spec"]["replicas"]
        ready = count if ready is None else ready
        live["status"] = {"observedGeneration": live["metadata"]["generation"]}
        self._changed(live)
        self._without_pods_of(name)
        self.pods += [self._running(live, number, number < ready) for number in range(count)]

    def _running(self, deployment: Manifest, number: int, is_ready: bool) -> Manifest:
        name = f"{deployment['metadata']['name']}-{number}"
        labels = dict(deployment["spec"]["template"]["metadata"]["labels"])
        metadata = {"name": name, "namespace": "default", "uid": f"uid-{next(self._uids)}", "labels": labels}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
        answers = {"type": "Ready", "status": "True" if is_ready else "False"}
        made["status"] = {"phase": "Running", "conditions": [answers]}
        self._changed(made)
        return made

    def _without_pods_of(self, name: str) -> None:
        self.pods = [pod for pod in self.pods if not pod["metadata"]["name"].startswith(f"{name}-")]

    def all_pods_answer(self) -> None:
        for name in self.names("Deployment"):
            self.pods_answer(name)

    def observed(self) -> Observed:
        """What a newly started operator sees of it."""
        seen = Observed()
        for one in self.objects.values():
            if one["kind"] == "Pod":
                seen.put_pod(copy.deepcopy(one))
            elif one["kind"] == KIND or "serving.atalaya.dev/model" in (one["metadata"].get("labels") or {}):
                seen.put(copy.deepcopy(one))
        for pod in self.pods:
            seen.put_pod(copy.deepcopy(pod))
        for node in self.nodes:
            seen.put_node(copy.deepcopy(node))
        return seen

    def reconcile(self, platform: Platform | None = None, now: str = "") -> float | None:
        """One look by an operator that was just started."""
        plain = platform or Platform(atalaya_version="0.1.0")
        return Controller(self, self.observed(), lambda: plain, lambda: now or self.now).reconcile(KEY)

    def settle(self, platform: Platform | None = None) -> None:
        """Look, with all pods coming up, until nothing is written."""
        for _ in range(8):
            before = len(self.writes)
            self.all_pods_answer()
            self.reconcile(platform)
            if len(self.writes) == before:
                return
        raise AssertionError(f"it never came to rest: {self.writes}")

    def state(self) -> dict[tuple[str, str], Any]:
        """What is there, without what differs from run to run."""
        told = {}
        for key, one in self.objects.items():
            metadata = {k: v for k, v in one["metadata"].items() if k in ("labels", "ownerReferences")}
            told[key] = {**{k: v for k, v in one.items() if k not in ("metadata",)}, "metadata": metadata}
            if one["kind"] == "Deployment":
                told[key].pop("status", None)
        return told

    def _called(self, verb: str, about: Manifest) -> None:
        self.calls.append(f"{verb} {about['kind']}/{about['metadata']['name']}")
        if self.cut_after is not None and len(self.calls) >= self.cut_after:
            raise TryAgain("the operator was killed here")

    def _changed(self, live: Manifest) -> None:
        live["metadata"]["resourceVersion"] = str(next(self._versions))


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _fields(value: Any, *, at_root: bool = True) -> Any:
    """`fieldsV1`, every list taken as one value."""
    if not isinstance(value, dict):
        return {}
    left_out = ("apiVersion", "kind", "name", "namespace", "uid") if at_root else ()
    return {
        f"f:{key}": _fields(member, at_root=at_root and key == "metadata")
        for key, member in value.items()
        if key not in left_out
    }


def _all_fields(live: Manifest) -> list[Any]:
    return [entry["fieldsV1"] for entry in live["metadata"].get("managedFields", ())]


def _fields_of(live: Manifest, manager: str) -> Any:
    for entry in live["metadata"].get("managedFields", ()):
        if entry["manager"] == manager and "subresource" not in entry:
            return entry["fieldsV1"]
    return {}


def _own(live: Manifest, manager: str, operation: str, fields: Any, subresource: str = "") -> None:
    entries = live["metadata"].setdefault("managedFields", [])
    entries[:] = [one for one in entries if (one["manager"], one.get("subresource", "")) != (manager, subresource)]
    entry = {"manager": manager, "operation": operation, "fieldsV1": fields}
    entries.append(entry | ({"subresource": subresource} if subresource else {}))


def _remove(live: Any, before: Any, now: Any, others: list[Any]) -> None:
    """Drop what this manager set and sets no longer, unless another has it too."""
    for key, inner in before.items():
        name, theirs = key[2:], [other[key] for other in others if key in other]
        if key not in now and not theirs:
            live.pop(name, None)
        elif inner and name in live:
            _remove(live[name], inner, now.get(key, {}), theirs)


def _merge(live: Any, wanted: Any) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        else:
            live[key] = value
