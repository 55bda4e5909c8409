"""Has a Prometheus operator scrape every pod of a revision, also of one that no Service leads to yet."""

from atalaya_operator import names
from atalaya_operator.bridge import BRIDGE_METRICS_PATH
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import OPTIONAL_KINDS, POD_MONITOR, Platform
from atalaya_operator.revision import Manifest, Revision


def pod_monitor(subject: Subject, revision: Revision, platform: Platform) -> Manifest | None:
    """None where the cluster knows no PodMonitor; the pods' annotations serve a plain Prometheus."""
    if POD_MONITOR not in platform.offers:
        return None
    endpoints = [{"port": names.REST_PORT, "path": revision.metrics_path}]
    if any(one["name"] == names.BRIDGE_CONTAINER for one in revision.template["spec"]["containers"]):
        endpoints.append({"port": names.BRIDGE_REST_PORT, "path": BRIDGE_METRICS_PATH})
    return {
        "apiVersion": OPTIONAL_KINDS[POD_MONITOR],
        "kind": POD_MONITOR,
        "metadata": subject.metadata(revision.name, revision.digest),
        "spec": {
            "selector": {"matchLabels": names.selector(subject.model.name, revision.digest)},
            "podMetricsEndpoints": endpoints,
            "podTargetLabels": [names.MODEL_LABEL, names.REVISION_LABEL],
        },
    }
