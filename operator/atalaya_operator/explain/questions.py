"""What is to be asked for beyond what is watched, when, and how soon to look again.

Warnings and logs are not watched: they are the busiest of all objects. They are asked for only of a pod that is late,
more seldom the longer it is, and of pods that start in the usual time never.
"""

from dataclasses import dataclass

from atalaya_operator import names
from atalaya_operator.explain.case import Case
from atalaya_operator.explain.nodes import why_lost
from atalaya_operator.explain.pods import Pod, seconds_between
from atalaya_operator.explain.stages import Stage, stage

LATE_SECONDS = 3.0
"""A pod that takes longer over a step is asked about, and what it is at is told."""
_SOONEST_SECONDS, _LATEST_SECONDS = 2.0, 30.0


@dataclass(frozen=True)
class Late:
    """A pod, the step that it is at, and for how long."""

    pod: Pod
    stage: Stage
    seconds: float

    @property
    def is_late(self) -> bool:
        """Whether it takes longer than usual."""
        return self.seconds >= LATE_SECONDS

    @property
    def again_seconds(self) -> float:
        """When to look again: at once when it gets late, then more and more seldom."""
        if not self.is_late:
            return LATE_SECONDS - self.seconds + 0.1
        return min(max(_SOONEST_SECONDS, self.seconds / 10), _LATEST_SECONDS)


@dataclass(frozen=True)
class Questions:
    """`logs` are pods' and containers' names; `again_seconds` is None when the next change will tell."""

    warnings: bool = False
    logs: tuple[tuple[str, str], ...] = ()
    again_seconds: float | None = None


def questions(case: Case) -> Questions:
    """For the pods that are not ready, as far as their nodes can answer."""
    waiting = underway(case)
    logs = tuple((one.pod.name, names.SERVER_CONTAINER) for one in waiting if one.is_late and one.stage.is_loading)
    unread = (one for one in waiting if not one.stage.is_told or not one.is_late)
    return Questions(
        warnings=any(_may_be_warned_of(one) for one in waiting),
        logs=logs,
        again_seconds=min((one.again_seconds for one in unread), default=None),
    )


def underway(case: Case) -> list[Late]:
    """The pods that are on their way, on nodes that work."""
    found = []
    for one in case.living:
        at = stage(one)
        if at is not None and not why_lost(case.nodes.get(one.node)):
            found.append(Late(one, at, max(0.0, seconds_between(at.since, case.now))))
    return found


def _may_be_warned_of(one: Late) -> bool:
    """Not while the model is fetched or loads: a probe fails then, as it should."""
    if one.stage.is_told or one.stage.is_loading:
        return False
    server = one.pod.container(names.SERVER_CONTAINER)
    return one.is_late or bool(server and server.is_started)
