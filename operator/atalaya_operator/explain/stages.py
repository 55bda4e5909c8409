"""What a pod is at on its way to answering, and since when: nothing is wrong yet."""

from dataclasses import dataclass

from atalaya_operator import names
from atalaya_operator.explain.pods import Container, Pod

_WAITS_TO_BE_MADE = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True)
class Stage:
    """One step. `is_told` says whether the pod's own status tells of its end and of what goes wrong in it."""

    doing: str
    since: str
    is_told: bool = False
    is_loading: bool = False


def stage(one: Pod) -> Stage | None:
    """The step that a pod is at; None when there is none to wait for: it is ready, failed, or has no node."""
    server = one.container(names.SERVER_CONTAINER)
    if one.is_ready or not one.node or server is None:
        return None
    if server.running_since:
        return _of_server(server)
    running = next((container for container in one.containers if container.is_init and container.running_since), None)
    if running:
        return Stage("fetches the model", running.running_since, is_told=True)
    if any(container.failure for container in one.containers) or server.waits_for not in _WAITS_TO_BE_MADE:
        return None
    return Stage("is being made: volumes, images, containers", one.scheduled_at)


def _of_server(server: Container) -> Stage:
    """A loaded model is ready in a moment, or soon has a failed probe to tell of."""
    return Stage("loads the model", server.running_since, is_loading=not server.is_started)
