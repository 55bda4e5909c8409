"""Servers that have their model and do not say that they are ready."""

from collections.abc import Iterable

from atalaya_operator import names
from atalaya_operator.explain.case import Case, Warned
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.pods import Container, Pod, seconds_between
from atalaya_operator.explain.reasons import PROBE_FAILING

UNHEALTHY = "Unhealthy"
_READINESS = "Readiness probe"


def probe_failing(one: Pod, case: Case) -> Finding | None:
    """Not in the first moments: only when a probe failed, or the pod was ready before."""
    server = one.container(names.SERVER_CONTAINER)
    if server is None or not server.is_started:
        return None
    for container in one.containers:
        if container.is_init or container.is_ready or not container.running_since:
            continue
        said = _failed_probe(case.asked.warnings.get(one.uid, ()), container)
        if said or seconds_between(container.running_since, one.unready_since) > 0:
            told = said or "its readiness probe fails."
            message = f"container {container.name} of {one.where} runs and is not ready: {told}"
            return finding(PROBE_FAILING, message, container.name, **case.words(one, container))
    return None


def _failed_probe(warnings: Iterable[Warned], container: Container) -> str:
    """The newest warning since the container started."""
    found = [
        one
        for one in warnings
        if one.reason == UNHEALTHY
        and one.message.startswith(_READINESS)
        and seconds_between(container.running_since, one.at) >= 0
    ]
    return " ".join(max(found, key=lambda one: one.at).message.split()) if found else ""
