"""The Deployment of a revision. Its pods never change; what changes them is another revision."""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest, Revision

PROGRESS_SECONDS = 900


def deployment(subject: Subject, revision: Revision, replicas: int | None) -> Manifest:
    """`replicas` is None where an autoscaler owns them.

    Whoever applies this without a number that it applied before must first leave the number to another manager of the
    field, or the API server sets it to 1.
    """
    spec: Manifest = {
        "selector": {"matchLabels": names.selector(subject.model.name, revision.digest)},
        "template": revision.template,
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": PROGRESS_SECONDS,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }
    metadata = subject.metadata(revision.name, revision.digest)
    if revision.annotations:
        metadata["annotations"] = dict(revision.annotations)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": spec | ({} if replicas is None else {"replicas": replicas}),
    }
