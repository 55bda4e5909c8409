"""What the operator knows of the cluster: every model, the objects and pods that carry its label, and every node.

As last seen: watches fill it, and answers to our own writes do, which come sooner. Kept is what is read (essence).
Safe for threads. It asks nobody.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from atalaya_operator.essence import is_same, node_essence, object_essence, pod_essence
from atalaya_operator.kinds import NODES, PODS
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.revision import Manifest
from atalaya_spec.inference_model import KIND


class ModelKey(NamedTuple):
    """What is reconciled: one model."""

    namespace: str
    name: str


class ObjectKey(NamedTuple):
    """An object among those of one model."""

    kind: str
    name: str


@dataclass(frozen=True)
class Seen:
    """A model, and the objects and pods with its label, whoever they belong to."""

    model: Manifest
    objects: Mapping[ObjectKey, Manifest]
    pods: tuple[Manifest, ...] = ()
    """Each as `pod_essence` keeps it."""


class Observed:
    """The cluster as last seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[ModelKey, Manifest] = {}
        self._objects: dict[ModelKey, dict[ObjectKey, Manifest]] = {}
        self._pods: dict[ModelKey, dict[str, Manifest]] = {}
        self._nodes: Mapping[str, Manifest] = MappingProxyType({})
        self._followers: set[ModelKey] = set()

    def put(self, found: Manifest) -> ModelKey:
        """Keep an object, unless a newer state of it is known. Answers which model it concerns."""
        found, key = object_essence(found), model_key(found)
        with self._lock:
            if found["kind"] == KIND:
                if not _is_older(found, self._models.get(key)):
                    self._models[key] = found
                return key
            objects = self._objects.setdefault(key, {})
            if not _is_older(found, objects.get(object_key(found))):
                objects[object_key(found)] = found
        return key

    def drop(self, gone: Manifest) -> ModelKey:
        """Forget an object that is no more. Another of the same name, made since, stays."""
        key = model_key(gone)
        with self._lock:
            if gone["kind"] == KIND:
                if _uid(self._models.get(key)) == _uid(gone):
                    del self._models[key]
                return key
            objects = self._objects.get(key, {})
            if _uid(objects.get(object_key(gone))) == _uid(gone):
                del objects[object_key(gone)]
            if not objects:
                self._objects.pop(key, None)
        return key

    def put_pod(self, found: Manifest) -> bool:
        """Keep what matters of a pod. Answers whether that is anything new."""
        kept, key = pod_essence(found), model_key(found)
        with self._lock:
            pods = self._pods.setdefault(key, {})
            known = pods.get(kept["metadata"]["name"])
            if _is_older(kept, known):
                return False
            pods[kept["metadata"]["name"]] = kept
        return not is_same(known, kept)

    def drop_pod(self, gone: Manifest) -> ModelKey:
        """Forget a pod, as `drop` does an object."""
        key, name = model_key(gone), gone["metadata"]["name"]
        with self._lock:
            pods = self._pods.get(key, {})
            if _uid(pods.get(name)) == _uid(gone):
                del pods[name]
            if not pods:
                self._pods.pop(key, None)
        return key

    def put_node(self, found: Manifest) -> bool:
        """Keep what matters of a node. Answers whether that is anything new: a heartbeat is not."""
        kept = node_essence(found)
        with self._lock:
            known = self._nodes.get(kept["metadata"]["name"])
            if _is_older(kept, known):
                return False
            self._nodes = MappingProxyType({**self._nodes, kept["metadata"]["name"]: kept})
        return not is_same(known, kept)

    def drop_node(self, gone: Manifest) -> None:
        """Forget a node. Another of the same name, made since, stays."""
        with self._lock:
            if _uid(self._nodes.get(gone["metadata"]["name"])) == _uid(gone):
                left = {name: one for name, one in self._nodes.items() if name != gone["metadata"]["name"]}
                self._nodes = MappingProxyType(left)

    def nodes(self) -> Mapping[str, Manifest]:
        """Every node by its name, each as `node_essence` keeps it. It does not change under the reader's hands."""
        with self._lock:
            return self._nodes

    def concerned_by(self, node: str) -> set[ModelKey]:
        """The models with a pod on a node, those with a pod that waits for one, and those that follow what is free."""
        with self._lock:
            return self._followers | {
                key
                for key, pods in self._pods.items()
                if any(pod["spec"].get("nodeName") in (None, node) for pod in pods.values())
            }

    def follow(self, key: ModelKey, *, is_open: bool) -> None:
        """Whether a model is to be looked at when accelerators come free or go."""
        with self._lock:
            (self._followers.add if is_open else self._followers.discard)(key)

    def followers(self) -> frozenset[ModelKey]:
        """The models that are."""
        with self._lock:
            return frozenset(self._followers)

    def seen(self, key: ModelKey) -> Seen | None:
        """A model, its objects and its pods; None when there is no such model."""
        with self._lock:
            model = self._models.get(key)
            if model is None:
                return None
            return Seen(model, dict(self._objects.get(key, {})), tuple(self._pods.get(key, {}).values()))

    def of_kind(self, kind: str) -> list[Manifest]:
        """Every object of a kind, of all models; for nodes, every node."""
        with self._lock:
            if kind == KIND:
                return list(self._models.values())
            if kind == NODES.name:
                return list(self._nodes.values())
            if kind == PODS.name:
                return [pod for pods in self._pods.values() for pod in pods.values()]
            return [found for one in self._objects.values() for key, found in one.items() if key.kind == kind]

    def models(self) -> list[ModelKey]:
        """Every model there is."""
        with self._lock:
            return list(self._models)


def object_key(manifest: Manifest) -> ObjectKey:
    """The key of an object among its model's."""
    return ObjectKey(manifest["kind"], manifest["metadata"]["name"])


def model_key(manifest: Manifest) -> ModelKey:
    """The model that an object is, or whose label it carries."""
    metadata = manifest["metadata"]
    name = metadata["name"] if manifest["kind"] == KIND else metadata["labels"][MODEL_LABEL]
    return ModelKey(metadata["namespace"], name)


def _uid(manifest: Manifest | None) -> str | None:
    return manifest["metadata"].get("uid") if manifest else None


def _is_older(found: Manifest, known: Manifest | None) -> bool:
    """Versions of one object ascend (Kubernetes says so since 1.35, and always did so)."""
    if known is None or _uid(known) != _uid(found):
        return False
    return int(found["metadata"]["resourceVersion"]) < int(known["metadata"]["resourceVersion"])
