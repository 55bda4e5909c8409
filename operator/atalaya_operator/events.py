"""The Event that is told of a fault: one a cause, however often it is looked at and by however many lives of ours.

Its name is a digest of what makes a cause. Telling it again is refused by the API server as a name that is taken, so
nothing has to be remembered.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from atalaya_operator.explain.finding import Finding
from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.revision import Manifest
from atalaya_spec.inference_model import API_VERSION, KIND

_LONGEST_NOTE = 1024


def event(told: Finding, model: Manifest, status: Mapping[str, Any], now: str) -> Manifest:
    """The Event for a finding that is about to be told by `status`."""
    metadata = model["metadata"]
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    # A cause that comes back after all was well is a new one; while it is not, the time stays the same.
    parts = (metadata["uid"], told.reason, told.cause, ready["status"], ready["lastTransitionTime"])
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
    note = f"{told.message} Next: {told.next_step}." if told.next_step else told.message
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "eventTime": f"{now.removesuffix('Z')}.000000Z",
        "type": "Warning",
        "reason": told.reason,
        "action": "Explain",
        "note": note if len(note) <= _LONGEST_NOTE else f"{note[: _LONGEST_NOTE - 1]}…",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "reportingController": FIELD_MANAGER,
        "reportingInstance": FIELD_MANAGER,
    }
