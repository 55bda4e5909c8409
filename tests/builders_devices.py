"""Nodes and pods with accelerators as an API server tells of them, and a cluster in memory that has such nodes."""

import copy
import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from atalaya_operator.accelerators import amounts_of, holder, is_ready, obstacle_of
from atalaya_operator.allocation import Allocation
from atalaya_operator.controller import Controller
from atalaya_operator.device_standing import device_of
from atalaya_operator.observed import Observed
from atalaya_operator.platform import Platform
from builders_reconcile import KEY, FakeCluster

Manifest = dict[str, Any]
EARLY = "2026-01-01T00:00:00Z"
_count = itertools.count(1)


def node(name: str, *taints: str, ready: bool = True, cordoned: bool = False, **offered: int) -> Manifest:
    """`taints` like `dedicated=training:NoSchedule`; `offered` by the short names of `RESOURCES`."""
    allocatable = {"cpu": "32"} | {RESOURCES[short]: str(count) for short, count in offered.items()}
    condition = {"type": "Ready", "status": "True" if ready else "Unknown", "lastTransitionTime": EARLY}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"node-{name}", "resourceVersion": str(next(_count))},
        "spec": {"unschedulable": cordoned, "taints": [_taint(one) for one in taints]},
        "status": {"allocatable": allocatable, "conditions": [condition]},
    }


RESOURCES = {
    "xe": "gpu.intel.com/xe",
    "i915": "gpu.intel.com/i915",
    "npu": "npu.intel.com/accel",
    "nvidia": "nvidia.com/gpu",
    "shared": "nvidia.com/gpu.shared",
    "mig": "nvidia.com/mig-1g.5gb",
}


def pod(name: str, on: str = "", created: str = EARLY, labels: dict[str, str] | None = None, **held: int) -> Manifest:
    """A pod of whomever; `on` is its node."""
    limits = {RESOURCES[short]: str(count) for short, count in held.items()}
    number = next(_count)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"pod-{number}", "resourceVersion": str(number),
                     "creationTimestamp": created, "labels": labels or {}},
        "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]} | ({"nodeName": on} if on else {}),
        "status": {"phase": "Running" if on else "Pending"},
    }  # fmt: skip


def _taint(text: str) -> Manifest:
    left, _, effect = text.partition(":")
    key, _, value = left.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


class DeviceCluster(FakeCluster):
    """A cluster in memory with nodes: its Deployments get pods, a pod a place where its device is free, and time goes.

    A pod with a place answers at once. Pods of a Deployment that is gone are gone.
    """

    def __init__(self, *objects: Manifest, nodes: Iterable[Manifest] = ()) -> None:
        super().__init__(*objects)
        self.machines = {one["metadata"]["name"]: one for one in nodes}
        self.foreign: list[Manifest] = []
        self.stuck: set[str] = set()
        """Devices that are free and give no pod a place all the same."""

    def observed(self) -> Observed:
        self.nodes = list(self.machines.values())
        return super().observed()

    def reconcile(self, platform: Platform | None = None, now: str = "") -> float | None:
        """One look by an operator that was just started."""
        observed, plain = self.observed(), platform or Platform(atalaya_version="0.1.0")
        foreign = [found for found in map(holder, self.foreign) if found]
        allocation = Allocation(observed, lambda: foreign)
        return Controller(self, observed, lambda: plain, lambda: now or self.now, allocation).reconcile(KEY)

    def wait(self, seconds: float = 0) -> None:
        """Let time go by, then let controllers and the scheduler do their part."""
        self.now = (datetime.fromisoformat(self.now) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        there = {name: one for (kind, name), one in self.objects.items() if kind == "Deployment"}
        self.pods = [one for one in self.pods if one["metadata"]["ownerReferences"][0]["name"] in there]
        for name, deployment in sorted(there.items()):
            mine = [one for one in self.pods if one["metadata"]["ownerReferences"][0]["name"] == name]
            wanted = deployment["spec"]["replicas"]
            for gone in mine[wanted:]:
                self.pods.remove(gone)
            self.pods += [self._pod(deployment) for _ in range(wanted - len(mine))]
        for one in self.pods:
            if not one["spec"].get("nodeName"):
                self._place(one)
            answers = {"type": "Ready", "status": "True" if self._works(one) else "False"}
            one["status"] |= {"conditions": [answers]}
            self._changed(one)

    def come_to_rest(self, seconds: float = 0) -> None:
        """Look and let the cluster work, a second at a time, until a look changes nothing."""
        self.wait(seconds)
        for _ in range(12):
            before = len(self.writes)
            self.reconcile()
            if len(self.writes) == before:
                return
            self.wait(1)
        raise AssertionError(f"it never came to rest: {self.writes[-12:]}")

    def lose(self, name: str) -> None:
        """A node's kubelet answers no more; the pods there are as good as gone."""
        ready = self.machines[name]["status"]["conditions"][0]
        ready |= {"status": "Unknown", "lastTransitionTime": self.now}

    def device(self) -> str:
        """Of the one Deployment that there is."""
        (name,) = self.names("Deployment")
        return device_of(self.objects["Deployment", name])

    def devices(self) -> set[str]:
        """Of all Deployments."""
        return {device_of(self.objects["Deployment", name]) for name in self.names("Deployment")}

    def _pod(self, deployment: Manifest) -> Manifest:
        template = copy.deepcopy(deployment["spec"]["template"])
        made = pod(f"{deployment['metadata']['name']}-{next(_count)}", created=self.now)
        made["metadata"] |= {"labels": template["metadata"]["labels"],
                             "ownerReferences": [{"name": deployment["metadata"]["name"]}]}  # fmt: skip
        made["spec"] = template["spec"]
        return made

    def _place(self, waiting: Manifest) -> None:
        amounts = amounts_of(waiting["spec"])
        if not amounts:
            if "cpu" not in self.stuck:
                waiting["spec"]["nodeName"] = "node-1"
            return
        ((device, count),) = amounts.items()
        for name, there in self.machines.items():
            taken = sum(
                amounts_of(one["spec"]).get(device, 0)
                for one in [*self.pods, *self.foreign]
                if one["spec"].get("nodeName") == name
            )
            fits = int(there["status"]["allocatable"].get(device, 0)) - taken >= count
            if fits and device not in self.stuck and not obstacle_of(there, waiting["spec"]["tolerations"]):
                waiting["spec"]["nodeName"] = name
                return

    def _works(self, one: Manifest) -> bool:
        name = one["spec"].get("nodeName")
        return bool(name) and (name not in self.machines or is_ready(self.machines[name]))
