"""Lets a drained node take one pod of a revision at a time; a pod that is not ready holds up nobody."""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest, Revision


def disruption_budget(subject: Subject, revision: Revision) -> Manifest | None:
    """None for a single pod: a budget would either protect nothing or block every drain."""
    spec = subject.model.spec
    most = spec.scaling.max if spec.scaling else spec.replicas or 0
    if most < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": subject.metadata(revision.name, revision.digest),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(subject.model.name, revision.digest)},
        },
    }
