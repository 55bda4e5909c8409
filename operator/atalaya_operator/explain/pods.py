"""A pod as the explanations read it, from what is kept of its manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from atalaya_operator.names import REVISION_LABEL
from atalaya_operator.revision import Manifest

OOM_KILLED = "OOMKilled"


@dataclass(frozen=True)
class End:
    """How a container ended. The message is the end of its log, where it wrote nothing else."""

    code: int
    reason: str
    message: str

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Self | None:
        """None where it did not end."""
        ended = (state or {}).get("terminated")
        if not ended:
            return None
        return cls(int(ended.get("exitCode") or 0), str(ended.get("reason", "")), str(ended.get("message", "")))


@dataclass(frozen=True)
class Container:
    """One container of a pod; init containers first."""

    name: str
    image: str
    is_init: bool
    memory_limit: str = ""
    is_ready: bool = False
    is_started: bool = False
    """Its startup probe succeeded: for the server, the model is loaded."""
    waits_for: str = ""
    waits_because: str = ""
    running_since: str = ""
    ended: End | None = None
    ended_before: End | None = None

    @property
    def failure(self) -> End | None:
        """How it failed last, unless it went well since. A server that ended well failed all the same."""
        if self.is_ready or (self.running_since and self.is_started):
            return None
        end = self.ended or self.ended_before
        return end if end and not (self.is_init and end.code == 0) else None


@dataclass(frozen=True)
class Pod:
    """One pod."""

    name: str
    uid: str
    revision: str
    node: str
    phase: str
    reason: str
    message: str
    is_leaving: bool
    is_ready: bool
    unready_since: str
    scheduled_at: str
    not_scheduled: str
    """Why the scheduler found no node, in its words; empty when it has one or was not looked at."""
    containers: tuple[Container, ...]
    tolerations: tuple[Mapping[str, Any], ...] = ()

    @property
    def where(self) -> str:
        """The pod as evidence names it."""
        return f"pod {self.name} on node {self.node}" if self.node else f"pod {self.name}"

    def container(self, name: str) -> Container | None:
        """The container of a name."""
        return next((one for one in self.containers if one.name == name), None)


def pod(manifest: Manifest) -> Pod:
    """From what `essence.pod_essence` keeps."""
    metadata, spec, status = manifest["metadata"], manifest["spec"], manifest["status"]
    known = {one["type"]: one for one in status.get("conditions") or ()}
    ready, scheduled = known.get("Ready", {}), known.get("PodScheduled", {})
    is_unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        revision=(metadata.get("labels") or {}).get(REVISION_LABEL, ""),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        is_leaving="deletionTimestamp" in metadata,
        is_ready=ready.get("status") == "True",
        unready_since=ready.get("lastTransitionTime", "") if ready.get("status") == "False" else "",
        scheduled_at=scheduled.get("lastTransitionTime", "") if scheduled.get("status") == "True" else "",
        not_scheduled=scheduled.get("message", "") if is_unschedulable else "",
        containers=tuple(_containers(spec, status)),
        tolerations=tuple(spec.get("tolerations") or ()),
    )


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Container]:
    for wanted, told, is_init in (
        ("initContainers", "initContainerStatuses", True),
        ("containers", "containerStatuses", False),
    ):
        known = {one["name"]: one for one in status.get(told) or ()}
        for one in spec.get(wanted) or ():
            yield _container(one, known.get(one["name"], {}), is_init=is_init)


def _container(wanted: Mapping[str, Any], told: Mapping[str, Any], *, is_init: bool) -> Container:
    state = told.get("state") or {}
    waiting, running = state.get("waiting") or {}, state.get("running") or {}
    limits = (wanted.get("resources") or {}).get("limits") or {}
    return Container(
        name=wanted["name"],
        image=wanted.get("image", ""),
        is_init=is_init,
        memory_limit=str(limits.get("memory", "")),
        is_ready=bool(told.get("ready")),
        is_started=bool(told.get("started")),
        waits_for=waiting.get("reason", ""),
        waits_because=waiting.get("message", ""),
        running_since=running.get("startedAt", ""),
        ended=End.of(state),
        ended_before=End.of(told.get("lastState")),
    )


def seconds_between(earlier: str, later: str) -> float:
    """Between two times as Kubernetes writes them; 0 when one is not told."""
    if not earlier or not later:
        return 0.0
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
