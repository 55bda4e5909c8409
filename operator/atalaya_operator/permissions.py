"""What the operator may do in a cluster: exactly what it does, from the kinds that it makes and looks at.

`python -m atalaya_operator.permissions > charts/atalaya/files/permissions.yaml` writes what the chart's roles are made
of. A test holds the two equal, another holds them against what a real API server's audit log says was used.
"""

import sys
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from atalaya_operator.crd import PLURAL
from atalaya_operator.kinds import NODES, OWNED, PODS
from atalaya_operator.yaml_text import as_yaml
from atalaya_spec.inference_model import GROUP

Rule = dict[str, Any]
Allowed = tuple[str, str, tuple[str, ...]]
"""A group, a resource of it, verbs."""

_HEADER = "# Made by `python -m atalaya_operator.permissions`; edit operator/atalaya_operator/permissions.py instead.\n"
_SEEN = ("list", "watch")
_OWNED = ("create", "delete", "get", "list", "patch", "watch")
"""To apply what is not there yet takes `create` and `patch`."""
_ASKED = ("create", "delete", "list", "patch", "watch")
"""Pods of models are looked at; pods that ask a store for its versions are made and removed."""


def operator_rules() -> list[Rule]:
    """Always."""
    allowed: list[Allowed] = [(kind.group, kind.plural, _OWNED) for kind in OWNED]
    allowed += [
        (PODS.group, PODS.plural, _ASKED),
        (NODES.group, NODES.plural, _SEEN),
        ("", "pods/log", ("get",)),
        ("", "events", ("list",)),
        ("", "resourcequotas", ("get",)),
        ("events.k8s.io", "events", ("create",)),
        (GROUP, PLURAL, _SEEN),
        (GROUP, f"{PLURAL}/status", ("patch",)),
        ("apiextensions.k8s.io", "customresourcedefinitions", _SEEN),
    ]
    return _rules(allowed)


def webhook_rules() -> dict[str, list[Rule]]:
    """By the kind that the webhook looks for, where it is told to."""
    return {
        "PersistentVolumeClaim": _rules([("", "persistentvolumeclaims", ("get",))]),
        "Secret": _rules([("", "secrets", ("get",))]),
    }


def configuration_rule(name: str) -> Rule:
    """For the one ValidatingWebhookConfiguration, where the certificate is of our own making."""
    rule = _rule("admissionregistration.k8s.io", ["validatingwebhookconfigurations"], ("get", "patch"))
    return rule | {"resourceNames": [name]}


def file_text() -> str:
    """The text of the committed file; the configuration's name is the release's."""
    document = {
        "operator": operator_rules(),
        "webhook": webhook_rules(),
        "configuration": [configuration_rule("NAME")],
    }
    return _HEADER + as_yaml([document])


def _rules(allowed: Iterable[Allowed]) -> list[Rule]:
    """One rule for all resources of a group that are used alike."""

    def alike(one: Allowed) -> tuple[str, tuple[str, ...]]:
        return one[0], one[2]

    return [
        _rule(group, [resource for _, resource, _ in several], verbs)
        for (group, verbs), several in groupby(sorted(allowed, key=lambda one: (*alike(one), one[1])), alike)
    ]


def _rule(group: str, resources: list[str], verbs: tuple[str, ...]) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


if __name__ == "__main__":
    sys.stdout.write(file_text())
