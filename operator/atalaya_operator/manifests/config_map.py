"""The files of a revision's server. Named by the revision's digest, which they are part of, so they never change."""

from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest, Revision


def config_map(subject: Subject, revision: Revision) -> Manifest | None:
    """None where the server is told everything by flags."""
    if not revision.config:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": subject.metadata(revision.name, revision.digest),
        "immutable": True,
        "data": dict(revision.config),
    }
