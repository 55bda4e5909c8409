"""Finds out why pods are missing: builds the case from what is watched, asks for what is not, and has it explained.

Asking may fail, and then what is watched must do. Warnings are read at most once a second and namespace, however many
models of it ask, for the API server reads all events of a namespace to choose among them.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from atalaya_operator import conditions
from atalaya_operator.conditions import Explained
from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.explain.case import Asked, Case, Warned, case
from atalaya_operator.explain.explain import explain
from atalaya_operator.explain.questions import Questions, questions, underway
from atalaya_operator.kept import Kept
from atalaya_operator.observed import Observed, Seen
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Manifest

Warnings = Mapping[str, tuple[Warned, ...]]


class Inquirer(Protocol):
    """The cluster, as far as it is asked. All raise TryAgain and ObjectRefused."""

    def warnings(self, namespace: str) -> Iterable[Manifest]: ...
    def log_tail(self, namespace: str, pod: str, container: str) -> str: ...
    def quota(self, namespace: str, name: str) -> Manifest | None: ...


class Witness:
    """Safe for threads."""

    def __init__(self, cluster: Inquirer, observed: Observed, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._observed = cluster, observed
        self._warnings_of = Kept[Warnings](clock)
        self._quotas = Kept[Manifest | None](clock)

    def explained(self, target: Target, seen: Seen, now: str) -> tuple[Explained, float | None]:
        """Also in how many seconds to look again; None when a change will tell."""
        deployment = conditions.target_deployment(target, seen)
        if not conditions.lacks_pods(target, seen):
            return Explained(), None
        made = case(target, seen, deployment, self._observed.nodes(), now)
        asks = questions(made)
        made = replace(made, asked=self._asked(made, asks))
        return Explained(explain(made), _doing(made)), asks.again_seconds

    def _asked(self, made: Case, asks: Questions) -> Asked:
        logs = {about: self._log(made.namespace, *about) for about in asks.logs}
        return Asked(self._warnings(made.namespace) if asks.warnings else {}, logs)

    def _log(self, namespace: str, pod: str, container: str) -> str:
        try:
            return self._cluster.log_tail(namespace, pod, container)
        except (TryAgain, ObjectRefused):
            return ""

    def _warnings(self, namespace: str) -> Warnings:
        try:
            return self._warnings_of.get(namespace, lambda: by_pod(self._cluster.warnings(namespace)))
        except (TryAgain, ObjectRefused):
            return {}

    def quota(self, deployment: Manifest, name: str) -> Manifest | None:
        """A ResourceQuota beside a Deployment; None when there is none any more. Raises TryAgain, ObjectRefused."""
        namespace = deployment["metadata"]["namespace"]
        return self._quotas.get(f"{namespace}/{name}", lambda: self._cluster.quota(namespace, name))


def _doing(made: Case) -> str:
    """What the first pod that is late is at."""
    late = next((one for one in underway(made) if one.is_late), None)
    return f"{late.pod.where} {late.stage.doing}" if late else ""


def by_pod(events: Iterable[Manifest]) -> Warnings:
    """Warnings by the uid of the pod that they are about."""
    found: dict[str, tuple[Warned, ...]] = {}
    for event in events:
        uid = (event.get("involvedObject") or {}).get("uid", "")
        one = Warned(str(event.get("reason", "")), str(event.get("message", "")), _time(event))
        found[uid] = (*found.get(uid, ()), one)
    return found


def _time(event: Manifest) -> str:
    """When it was told last: the field differs by who tells."""
    series = event.get("series") or {}
    told = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(told or event["metadata"].get("creationTimestamp", ""))
