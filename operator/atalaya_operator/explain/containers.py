"""Containers that end: killed for memory, failed again and again, put out by the node, or never made."""

from atalaya_operator.explain.case import Case
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.log_lines import last_line
from atalaya_operator.explain.pods import OOM_KILLED, Container, End, Pod
from atalaya_operator.explain.reasons import CONTAINER_REFUSED, CRASH_LOOP, EVICTED, OUT_OF_MEMORY

_REFUSED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError")
_SIGNALS = {134: "aborted", 137: "killed", 139: "a segmentation fault", 143: "told to end"}


def out_of_memory(one: Pod, case: Case) -> Finding | None:
    """Told before a crash loop: it is why."""
    for container in one.containers:
        end = container.failure
        if end and end.reason == OOM_KILLED:
            limit = f"its memory limit of {container.memory_limit}" if container.memory_limit else "the node's memory"
            message = f"container {container.name} of {one.where} was killed: it went past {limit}."
            return finding(OUT_OF_MEMORY, message, container.name, **case.words(one, container))
    return None


def crash_loop(one: Pod, case: Case) -> Finding | None:
    """A container that ended, and whose words are none that are known."""
    for container in one.containers:
        end = container.failure
        if end is not None:
            message = f"container {container.name} of {one.where} {_told(end)}"
            cause = f"{container.name} {end.code}"
            return finding(CRASH_LOOP, message, cause, **case.words(one, container))
    return None


def container_refused(one: Pod, case: Case) -> Finding | None:
    """A container that the node does not make."""
    for container in one.containers:
        if container.waits_for in _REFUSED:
            said = " ".join(container.waits_because.split())
            message = f"container {container.name} of {one.where} is not made: {said}"
            return finding(CONTAINER_REFUSED, message, container.name, **case.words(one, container))
    return None


def evicted(one: Pod, case: Case) -> Finding | None:
    """A pod that the node put out."""
    if one.phase != "Failed" or one.reason != "Evicted":
        return None
    return finding(EVICTED, f"{one.where} was put out: {one.message}", one.node, **case.words(one))


def _told(end: End) -> str:
    how = f"ended with code {end.code}" + (f" ({_SIGNALS[end.code]})" if end.code in _SIGNALS else "")
    line = last_line(end.message)
    return f"{how}; its last line: {line}" if line else f"{how} and said nothing."


def words_of(container: Container) -> str:
    """The end of the log with which it failed."""
    return container.failure.message if container.failure else ""
