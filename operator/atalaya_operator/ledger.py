"""What models' own pods hold of accelerators, and what their Deployments ask for beyond that. Of each object once read.

A thousand models are looked at one after the other, each against all others: what an object takes is kept by its uid
and version, for a Deployment by its uid alone, whose pods never change.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from atalaya_operator import rollout
from atalaya_operator.accelerators import Holder, Owner, holder
from atalaya_operator.device_standing import device_of
from atalaya_operator.kinds import PODS
from atalaya_operator.names import MODEL_LABEL, REVISION_LABEL
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.ownership import is_leaving
from atalaya_operator.revision import Manifest
from atalaya_spec.server_versions import CPU

_SPARE = 1000


@dataclass(frozen=True)
class Claim:
    """So many of a device are asked for by a model and not held yet. Without a count all is held, and still known."""

    key: ModelKey
    device: str
    count: int


class Ledger:
    """Over what is observed. Not safe for threads."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._pods: dict[str, tuple[str, Holder | None]] = {}
        self._devices: dict[str, str] = {}

    def placed(self) -> list[Holder]:
        """Pods of models that have a node and an accelerator."""
        pods = self._observed.of_kind(PODS.name)
        if len(self._pods) > 2 * len(pods) + _SPARE:
            self._pods.clear()
        return [found for found in map(self._holder, pods) if found and found.node]

    def claims(self, placed: Iterable[Holder]) -> Iterator[Claim]:
        """What the Deployments ask for beside what is placed; they tell of it before their pods are there."""
        held = Counter(one.owner for one in placed)
        deployments = self._observed.of_kind("Deployment")
        if len(self._devices) > 2 * len(deployments) + _SPARE:
            self._devices.clear()
        for found in deployments:
            device = self._device(found)
            if device == CPU or is_leaving(found):
                continue
            owner = _owner(found)
            lacking = rollout.desired(found) - held[owner]
            yield Claim(ModelKey(owner.namespace, owner.model), device, max(0, lacking))

    def _holder(self, pod: Manifest) -> Holder | None:
        uid, version = pod["metadata"]["uid"], pod["metadata"]["resourceVersion"]
        known = self._pods.get(uid)
        if known is None or known[0] != version:
            known = self._pods[uid] = (version, holder(pod, _owner(pod)))
        return known[1]

    def _device(self, deployment: Manifest) -> str:
        uid = deployment["metadata"]["uid"]
        if uid not in self._devices:
            self._devices[uid] = device_of(deployment)
        return self._devices[uid]


def _owner(found: Manifest) -> Owner:
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return Owner(found["metadata"]["namespace"], labels.get(MODEL_LABEL, ""), labels.get(REVISION_LABEL, ""))
