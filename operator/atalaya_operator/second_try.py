"""Has refused pods tried again at once when their quota changed.

Kubernetes' own controller looks at no quotas: it tries again later and later, up to a quarter of an hour. A change of
the Deployment's annotation reaches its ReplicaSet, which is then tried at once. The annotation keeps what the quota was
at the last try, so that no quota in the same state is tried twice; nothing else has to be remembered.
"""

import hashlib
import json
from typing import Any

from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.revision import Manifest
from atalaya_spec.inference_model import GROUP

MANAGER = f"{FIELD_MANAGER}-second-try"
ANNOTATION = f"{GROUP}/tried-with-quota"
LOOK_SECONDS = 2.0


def second_try(deployment: Manifest, quota: Manifest | None) -> Manifest | None:
    """What to apply to the Deployment, as MANAGER; None when its pods were tried with the quota as it is now."""
    metadata = deployment["metadata"]
    state = _state(quota)
    if (metadata.get("annotations") or {}).get(ANNOTATION) == state:
        return None
    identity = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "metadata": {**identity, "annotations": {ANNOTATION: state}},
    }


def _state(quota: Manifest | None) -> str:
    told: Any = None if quota is None else [quota.get("spec"), quota.get("status")]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
