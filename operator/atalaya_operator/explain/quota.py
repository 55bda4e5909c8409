"""Pods that are never made, because the API server refuses them: told by the Deployment."""

import re

from atalaya_operator.explain.case import Case
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.reasons import PODS_REFUSED, QUOTA_EXCEEDED

_QUOTA = re.compile(r"(?:exceeded|failed) quota: (?P<name>[^,:\s]+)")
_NAMED_POD = re.compile(r'^(?:Error creating: )?pods "[^"]*" is forbidden: ')


def pods_refused(case: Case) -> Finding | None:
    """The name of the pod that was to be is another at each try, and no evidence."""
    for one in ((case.deployment or {}).get("status") or {}).get("conditions") or ():
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            said = _NAMED_POD.sub("", " ".join(str(one.get("message", "")).split()))
            found = _QUOTA.search(said)
            names = {"namespace": case.namespace, "quota": found["name"] if found else ""}
            why = QUOTA_EXCEEDED if found else PODS_REFUSED
            message = f"pods of {case.target.revision.name} are refused: {said}"
            return finding(why, message, names["quota"], **names)
    return None
