"""Has a Prometheus operator scrape every pod of a revision, also of one that no Service leads to yet."""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import OPTIONAL_KINDS, POD_MONITOR, Platform
from atalaya_operator.revision import Manifest, Revision


def pod_monitor(subject: Subject, revision: Revision, platform: Platform) -> Manifest | None:
    """None where the cluster knows no PodMonitor; the pods' annotations serve a plain Prometheus."""
    if POD_MONITOR not in platform.offers:
        return None
    return {
        "apiVersion": OPTIONAL_KINDS[POD_MONITOR],
        "kind": POD_MONITOR,
        "metadata": subject.metadata(revision.name, revision.digest),
        "spec": {
            "selector": {"matchLabels": names.selector(subject.model.name, revision.digest)},
            "podMetricsEndpoints": [{"port": names.REST_PORT, "path": revision.metrics_path}],
            "podTargetLabels": [names.MODEL_LABEL, names.REVISION_LABEL],
        },
    }
