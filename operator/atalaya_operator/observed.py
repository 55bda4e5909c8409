"""What the operator knows of the cluster: every model, and the objects that carry its label, as last seen.

Watches fill it, and answers to our own writes do, which come sooner. Safe for threads. It asks nobody.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
    """A model and the objects with its label, whoever they belong to."""

    model: Manifest
    objects: Mapping[ObjectKey, Manifest]


class Observed:
    """The cluster as last seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[ModelKey, Manifest] = {}
        self._objects: dict[ModelKey, dict[ObjectKey, Manifest]] = {}

    def put(self, found: Manifest) -> ModelKey:
        """Keep an object, unless a newer state of it is known. Answers which model it concerns."""
        key = model_key(found)
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

    def seen(self, key: ModelKey) -> Seen | None:
        """A model and its objects; None when there is no such model."""
        with self._lock:
            model = self._models.get(key)
            return None if model is None else Seen(model, dict(self._objects.get(key, {})))

    def of_kind(self, kind: str) -> list[Manifest]:
        """Every object of a kind, of all models."""
        with self._lock:
            if kind == KIND:
                return list(self._models.values())
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
