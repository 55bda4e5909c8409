"""The pod that asks a store which versions it has: with the model's own account, credentials and volumes.

So the operator needs no right to read a Secret and no way to the store. A kubelet runs it again when it fails, later
each time; once it has answered it stays as the record of that, until the next look.
"""

import hashlib
import json

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import Platform
from atalaya_operator.pod import ours, pod_security
from atalaya_operator.revision import Manifest
from atalaya_operator.storage import listing_storage

_USER_ID = 65532
_MAY_BE_MOVED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
"""Or a node would be kept for a pod of no controller that an autoscaler knows."""


def listing_pod(subject: Subject, platform: Platform) -> Manifest:
    """Its label tells what it asks: of another spec it is another pod."""
    model = subject.model
    stored = listing_storage(model, platform)
    spec: Manifest = {
        "serviceAccountName": names.service_account_name(model.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 1,
        "securityContext": pod_security(_USER_ID, ()),
        "containers": [ours(stored.server, platform)],
        "volumes": [*stored.volumes, {"name": "tmp", "emptyDir": {}}],
    }
    if model.spec.model.uri.scheme == "pvc":
        spec["affinity"] = _beside_the_servers(model.name)
    if platform.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in platform.image_pull_secrets]
    text = json.dumps([subject.uid, spec], sort_keys=True)
    label = {names.LISTING_LABEL: hashlib.sha256(text.encode()).hexdigest()[:10]}
    metadata = subject.metadata(names.listing_pod_name(model.name), labels=label)
    metadata["annotations"] = _MAY_BE_MOVED
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _beside_the_servers(model: str) -> Manifest:
    """A volume may be for one node only: then that is where the model's pods are."""
    term = {"labelSelector": {"matchLabels": names.selector(model)}, "topologyKey": "kubernetes.io/hostname"}
    return {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    }
