"""The model that objects are made for: what every object's metadata says of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from atalaya_operator import names
from atalaya_operator.revision import Manifest
from atalaya_spec.inference_model import API_VERSION, KIND, InferenceModel

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Subject:
    """A model, and its uid once it is in a cluster: what it owns goes with it."""

    model: InferenceModel
    uid: str = ""

    @property
    def namespace(self) -> str:
        """Where all of its objects live."""
        return self.model.metadata.namespace or DEFAULT_NAMESPACE

    def metadata(self, name: str, revision: str | None = None, labels: Mapping[str, str] | None = None) -> Manifest:
        """The metadata of an object; `revision` is the digest of the one it belongs to."""
        metadata: Manifest = {
            "name": name,
            "namespace": self.namespace,
            "labels": names.labels(self.model, revision) | dict(labels or {}),
        }
        if self.uid:
            owner = {"apiVersion": API_VERSION, "kind": KIND, "name": self.model.name, "uid": self.uid}
            metadata["ownerReferences"] = [owner | {"controller": True}]
        return metadata
