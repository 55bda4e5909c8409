"""Asks the cluster for its models every few seconds, in one thread for all viewers, and keeps what it said last.

An API server that is away leaves what it said before, with its age. Which pods to ask for latency comes from here.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from atalaya_dashboard.cluster_models import ClusterModel, ServingPod
from atalaya_dashboard.collector import Served, Target
from atalaya_dashboard.errors import ClusterUnreadable
from atalaya_spec.signals import BY_ENGINE

INTERVAL_SECONDS = 5.0
MOST_PODS = 50
"""More are not asked by these pages: it is what a Prometheus is for."""
_METRICS = re.compile(r":(\d{1,5})(/[\w/.-]*)")


class Cluster(Protocol):
    """Whom to ask; `ClusterModels` in production."""

    def list(self) -> Sequence[ClusterModel]:
        """Every model. Raises ClusterUnreadable."""
        ...

    def pods(self) -> Sequence[ServingPod]:
        """Every pod that answers for one. Raises ClusterUnreadable."""
        ...


@dataclass(frozen=True)
class ClusterState:
    """The cluster as last told, at `at` seconds since the epoch; None before it said anything.

    `error` is why it is not newer, `pods_error` why that part is not.
    """

    models: tuple[ClusterModel, ...] = ()
    pods: tuple[ServingPod, ...] = ()
    at: float | None = None
    error: str = ""
    pods_error: str = ""


class ClusterWatch:
    """The last answer. Thread-safe; `look_once` is one round, `start` repeats it."""

    def __init__(
        self, cluster: Callable[[], Cluster | None], *, with_pods: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """`with_pods` when the pods' addresses are of use: not where a Prometheus is asked."""
        self._cluster, self.with_pods, self._clock = cluster, with_pods, clock
        self._state = ClusterState()
        self._known: Cluster | None = None
        self._looked, self._stopping = threading.Event(), threading.Event()

    def start(self) -> "ClusterWatch":
        """Look in the background until `stop`."""
        threading.Thread(target=self._run, name="cluster", daemon=True).start()
        return self

    def stop(self) -> None:
        """End the background thread after its present round."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look_once()
            self._stopping.wait(INTERVAL_SECONDS)

    def look_once(self) -> None:
        """Ask once. A failure is remembered and never raised."""
        try:
            self._known = cluster = self._known or self._cluster()
            models = tuple(cluster.list()) if cluster else ()
        except ClusterUnreadable as error:
            self._state = replace(self._state, error=str(error))
        else:
            self._state = ClusterState(models, self._state.pods, self._clock())
            if cluster and self.with_pods:
                self._state = self._with(cluster)
        self._looked.set()

    def _with(self, cluster: Cluster) -> ClusterState:
        try:
            return replace(self._state, pods=tuple(cluster.pods()))
        except ClusterUnreadable as error:
            return replace(self._state, pods_error=str(error))

    def state(self, wait_seconds: float = 0.0) -> ClusterState:
        """What is known now; the first viewer may wait a little for the first answer."""
        self._looked.wait(wait_seconds)
        return self._state

    def targets(self) -> list[Target]:
        """The metrics addresses of the pods that serve."""
        return targets_of(self._state.models, self._state.pods)[:MOST_PODS]

    def not_asked(self) -> int:
        """How many pods are too many."""
        return max(len(self._state.pods) - MOST_PODS, 0)


def targets_of(models: Sequence[ClusterModel], pods: Sequence[ServingPod]) -> list[Target]:
    """Where to ask each pod of a model whose status tells it; never anything but the metrics of an engine."""
    known: Mapping[tuple[str, str], ClusterModel] = {(one.namespace, one.name): one for one in models}
    made = []
    for pod in pods:
        model = known.get((pod.namespace, pod.model))
        if model is None or model.engine not in BY_ENGINE:
            continue
        told = model.endpoints.metrics if model.endpoints else None
        if found := _METRICS.fullmatch(told or ""):
            host = f"[{pod.address}]" if ":" in pod.address else pod.address
            served = Served(model.namespace, model.name, model.engine)
            made.append(Target(f"http://{host}:{found[1]}{found[2]}", served, pod.name))
    return made
