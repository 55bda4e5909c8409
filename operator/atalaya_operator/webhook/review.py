"""The verdict on one object: what the API server asks (AdmissionReview v1) in, what it is answered out.

Refused is what cannot work in this cluster as it is, and what this operator does not understand although the cluster's
definition let it pass, as an older one does. What may still come, as a Secret that is applied a moment later, is warned
of: kubectl shows the warning, and the model is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atalaya_operator.errors import ClusterUnavailable, ObjectRefused, TryAgain
from atalaya_operator.manifests.autoscaler import lacking
from atalaya_operator.platform import Platform
from atalaya_spec.inference_model import InferenceModel
from atalaya_spec.model_files import check_object
from atalaya_spec.problems import Problem

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
_DELETE = "DELETE"
_REFUSED = 422
_MOST_WARNINGS, _LONGEST_WARNING = 16, 250  # beyond them the API server may cut them off


class Reader(Protocol):
    """What is asked of the cluster. Raises TryAgain and ObjectRefused."""

    def exists(self, kind: str, namespace: str, name: str) -> bool: ...


@dataclass(frozen=True)
class Judge:
    """Says what is wrong with a model in this cluster. `looks_for` are the kinds that it may look for by name."""

    cluster: Reader
    platform: Callable[[], Platform]
    looks_for: frozenset[str]

    def answer(self, review: Mapping[str, Any]) -> dict[str, Any]:
        """The whole AdmissionReview to send back. Raises KeyError for what is none."""
        request = review["request"]
        response = {"uid": request["uid"], **self._verdict(request)}
        return {"apiVersion": API_VERSION, "kind": KIND, "response": response}

    def _verdict(self, request: Mapping[str, Any]) -> dict[str, Any]:
        wanted, before = request.get("object"), request.get("oldObject")
        if request.get("operation") == _DELETE or not wanted or _is_unchanged(wanted, before):
            return {"allowed": True}
        model, findings = check_object(wanted)
        if model is None:
            return _refusal(findings.problems)
        if problems := list(lacking(model, self.platform())):
            return _refusal(problems)
        warnings = self._absent(model, request["namespace"])
        return {"allowed": True} | ({"warnings": _as_warnings(warnings)} if warnings else {})

    def _absent(self, model: InferenceModel, namespace: str) -> list[Problem]:
        """What the model names by its name and what is not there yet."""
        source = model.spec.model
        named = [("Secret", "spec.model.credentialsSecret", source.credentials_secret or "")]
        if source.uri.scheme == "pvc":
            named.append(("PersistentVolumeClaim", "spec.model.uri", source.uri.path.partition("/")[0]))
        return [
            Problem(path, f"there is no {kind} {name} in the namespace {namespace}", "make it, or correct the name")
            for kind, path, name in named
            if name and kind in self.looks_for and not self._is_there(kind, namespace, name)
        ]

    def _is_there(self, kind: str, namespace: str, name: str) -> bool:
        """A warning is not worth a failed admission: what cannot be asked is taken to be there."""
        try:
            return self.cluster.exists(kind, namespace, name)
        except (TryAgain, ObjectRefused, ClusterUnavailable):
            return True


def _is_unchanged(wanted: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Labels, annotations and finalizers can always be changed, whatever is wrong with the spec by now."""
    return before is not None and wanted.get("spec") == before.get("spec")


def _refusal(problems: Sequence[Problem]) -> dict[str, Any]:
    told = " ".join(map(str, problems))
    return {"allowed": False, "status": {"code": _REFUSED, "reason": "Invalid", "message": told}}


def _as_warnings(problems: Sequence[Problem]) -> list[str]:
    return [str(problem)[:_LONGEST_WARNING] for problem in problems[:_MOST_WARNINGS]]
