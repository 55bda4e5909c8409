"""Of all that can be told of a model's pods, the one thing to tell: the root, not what follows from it."""

from collections.abc import Callable, Iterable

from atalaya_operator.explain.case import Case
from atalaya_operator.explain.containers import container_refused, crash_loop, evicted, out_of_memory
from atalaya_operator.explain.finding import Finding
from atalaya_operator.explain.images import image_does_not_run, image_not_pulled
from atalaya_operator.explain.nodes import node_lost
from atalaya_operator.explain.pods import Pod
from atalaya_operator.explain.probes import probe_failing
from atalaya_operator.explain.quota import pods_refused
from atalaya_operator.explain.scheduling import no_node
from atalaya_operator.explain.storage import (
    claim_missing,
    folder_missing,
    model_not_fetched,
    model_not_loaded,
    secret_missing,
    volume_not_mounted,
)

OfPod = Callable[[Pod, Case], Finding | None]

# A pod's own faults, each before those that follow from it. What a container said goes before how it ended, and a
# killed one before both, for it could say nothing.
_OF_LIVING_PODS: tuple[OfPod, ...] = (
    image_not_pulled,
    image_does_not_run,
    out_of_memory,
    secret_missing,
    model_not_fetched,
    folder_missing,
    model_not_loaded,
    container_refused,
    crash_loop,
    volume_not_mounted,
    claim_missing,
    no_node,
)


def explain(case: Case) -> Finding | None:
    """Why pods of the target revision are missing; None where nothing tells of a fault."""
    return (
        _first((node_lost,), case.pods, case)
        or _first(_OF_LIVING_PODS, case.living, case)
        or pods_refused(case)
        or _first((probe_failing,), case.living, case)
        or _first((evicted,), case.pods, case)
    )


def _first(rules: Iterable[OfPod], pods: tuple[Pod, ...], case: Case) -> Finding | None:
    """The first rule that any pod meets; of several pods the first by name, so that it stays the same one."""
    found = (rule(one, case) for rule in rules for one in pods)
    return next((one for one in found if one is not None), None)
