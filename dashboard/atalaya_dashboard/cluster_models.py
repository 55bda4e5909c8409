"""The InferenceModels of the cluster, and the pods that serve them, as its API server tells them. Read-only.

What is asked takes `list` on InferenceModels and, for live latency, on EndpointSlices; nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from atalaya_dashboard.cluster_access import ACCOUNT, ClusterAccess, access_from_env, get
from atalaya_spec.inference_model import GROUP, VERSION
from atalaya_spec.inference_model_status import TRUE, Condition, Endpoints, RevisionStatus

NAMESPACE = "ATALAYA_NAMESPACE"
_MODEL_LABEL = f"{GROUP}/model"
_PAGE = 500


class State(IntEnum):
    """What a person has to know first; in the order in which models are listed."""

    NEEDS_YOU = 0
    WAITING = 1
    READY = 2


@dataclass(frozen=True)
class ClusterModel:
    """One model, in the words of `kubectl get im -o wide`, and what `kubectl describe` adds."""

    namespace: str
    name: str
    engine: str
    device: str
    version: str
    ready: str
    state: State
    reason: str
    message: str
    next_step: str
    created: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    revisions: tuple[RevisionStatus, ...] = ()
    endpoints: Endpoints | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the very spec that was applied serves."""
        return self.state == State.READY

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class ServingPod:
    """A pod that a model's Service leads to."""

    namespace: str
    model: str
    name: str
    address: str


@dataclass(frozen=True)
class ClusterModels:
    """What may be asked of a cluster: all of it, or one namespace."""

    access: ClusterAccess
    namespace: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str], account: Path = ACCOUNT) -> Self | None:
        """None where no cluster is known. Raises ClusterUnreadable for a kubeconfig that is none."""
        access = access_from_env(env, account)
        return None if access is None else cls(access, env.get(NAMESPACE, "").strip())

    def list(self) -> list[ClusterModel]:
        """All of them, those that need somebody first. Raises ClusterUnreadable."""
        found = map(model_of, self._items(f"/apis/{GROUP}/{VERSION}", "inferencemodels"))
        return sorted(found, key=lambda one: (one.state, one.namespace, one.name))

    def pods(self) -> Sequence[ServingPod]:
        """The pods that answer for any model, each once: it has two Services. Raises ClusterUnreadable."""
        ours = f"&labelSelector={quote(_MODEL_LABEL, safe='')}"
        slices = self._items("/apis/discovery.k8s.io/v1", "endpointslices", ours)
        found = {pod for one in slices for pod in pods_of(one)}
        return sorted(found, key=lambda pod: (pod.namespace, pod.model, pod.name))

    def _items(self, root: str, plural: str, more: str = "") -> Iterator[Mapping[str, Any]]:
        where = f"/namespaces/{quote(self.namespace, safe='')}" if self.namespace else ""
        following = ""
        while True:
            page = get(self.access, f"{root}{where}/{plural}?limit={_PAGE}{more}{following}")
            yield from page["items"]
            if not page["metadata"].get("continue"):
                return
            following = f"&continue={quote(page['metadata']['continue'], safe='')}"


def model_of(item: Mapping[str, Any]) -> ClusterModel:
    """What a person reads of one object; a model that the operator has not looked at yet says so."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    state, reason, message, step = _told(metadata, status)
    return ClusterModel(
        namespace=metadata["namespace"],
        name=metadata["name"],
        engine=spec["engine"],
        device=status.get("device", ""),
        version=status.get("version", ""),
        ready=status.get("ready", ""),
        state=state,
        reason=reason,
        message=message,
        next_step=step,
        created=_time(metadata.get("creationTimestamp")),
        conditions=tuple(map(_condition, status.get("conditions") or ())),
        revisions=tuple(map(_revision, status.get("revisions") or ())),
        endpoints=_endpoints(status.get("endpoints")),
    )


def _told(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[State, str, str, str]:
    """State, reason, message and next step."""
    reason = status.get("reason", "")
    if metadata.get("deletionTimestamp"):
        return State.WAITING, "BeingRemoved", "it was deleted; its pods end.", ""
    if not reason:
        return State.NEEDS_YOU, "NotSeen", "the operator has not looked at it.", "see that the operator runs"
    if status.get("observedGeneration") != metadata.get("generation"):
        return State.WAITING, reason, "it was changed, and the operator has not looked at it since.", ""
    holds = {one["type"]: one["status"] == TRUE for one in status.get("conditions") or ()}
    state = State.READY if holds.get("Ready") else State.WAITING if holds.get("Progressing") else State.NEEDS_YOU
    return state, reason, status.get("message", ""), status.get("nextStep", "")


def pods_of(endpoint_slice: Mapping[str, Any]) -> Iterator[ServingPod]:
    """The ready pods of a slice of one of a model's Services."""
    metadata = endpoint_slice["metadata"]
    model = metadata["labels"][_MODEL_LABEL]
    for endpoint in endpoint_slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint["addresses"]:
            address = endpoint["addresses"][0]
            name = (endpoint.get("targetRef") or {}).get("name", address)
            yield ServingPod(metadata["namespace"], model, name, address)


def _condition(told: Mapping[str, Any]) -> Condition:
    kind, status, reason, message, since = (
        str(told.get(key, "")) for key in ("type", "status", "reason", "message", "lastTransitionTime")
    )
    return Condition(kind, status, reason, message, since, told.get("observedGeneration"))


def _revision(told: Mapping[str, Any]) -> RevisionStatus:
    return RevisionStatus(
        **{key: told.get(key) for key in ("version", "digest", "image", "device", "verdict")},
        name=str(told.get("name", "")),
    )


def _endpoints(told: Mapping[str, Any] | None) -> Endpoints | None:
    if told is None:
        return None
    return Endpoints(told.get("kserveV2"), told.get("tensorflowServing"), told.get("metrics"))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
