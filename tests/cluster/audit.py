"""What a service account has asked of the API server, from its audit log, in the words of a role."""

import json
from dataclasses import dataclass, field
from typing import Any

from cluster.access import Cluster

Permission = tuple[str, str, str]
"""A group, a resource, a verb."""
_CREATED = 201


@dataclass
class Used:
    """What was allowed and what was not."""

    allowed: set[Permission] = field(default_factory=set)
    denied: set[Permission] = field(default_factory=set)


def used_by(cluster: Cluster, namespace: str, account: str) -> Used:
    """All that an account has asked since the cluster's start."""
    user, used = f'"username":"system:serviceaccount:{namespace}:{account}"', Used()
    for line in cluster.layout.audit_log.read_text().splitlines():
        if user in line:
            event = json.loads(line)
            is_denied = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
            for permission in _permissions(event):
                (used.denied if is_denied else used.allowed).add(permission)
    return used


def granted(rules: list[dict[str, Any]]) -> set[Permission]:
    """What a role lets its holder do."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _permissions(event: dict[str, Any]) -> list[Permission]:
    """To make something by a patch takes `create` too, which the API server asks for without a word in the log."""
    about = event.get("objectRef")
    if not about or "resource" not in about:
        return []
    resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
    verbs = [event["verb"]]
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == _CREATED:
        verbs.append("create")
    return [(about.get("apiGroup", ""), resource, verb) for verb in verbs]
