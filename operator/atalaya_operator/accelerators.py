"""What nodes offer of an accelerator, who holds it, and how many replicas of a model it could hold. Pure.

Labels differ from vendor to vendor; what binds is the resource that a device plugin offers, so that alone is counted:
by `allocatable` of nodes that take pods, less what pods of any phase but ended hold there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from atalaya_operator.revision import Manifest

_VENDORS = ("gpu.intel.com/", "npu.intel.com/", "nvidia.com/")
_ENDED = ("Succeeded", "Failed")
_KEEPS_AWAY = ("NoSchedule", "NoExecute")
_MOST_OBSTACLES = 3


class Owner(NamedTuple):
    """The revision of a model that a pod belongs to."""

    namespace: str
    model: str
    revision: str


@dataclass(frozen=True)
class Holder:
    """A pod, as far as it takes accelerators. `node` is empty while it waits for one."""

    uid: str
    amounts: Mapping[str, int]
    node: str
    owner: Owner | None = None


@dataclass(frozen=True)
class Stock:
    """How it stands with one accelerator, for one revision of a model."""

    device: str
    offered: int = 0
    """On nodes that take its pods now."""
    free: int = 0
    own: int = 0
    """Held by pods of this very revision."""
    older: int = 0
    """Held by pods of the model's other revisions, which it is to replace."""
    claimed: int = 0
    """Asked for by pods that wait, of whomever."""
    obstacles: tuple[str, ...] = ()
    """Why each other node that offers it takes none."""

    @property
    def room(self) -> int:
        """How many replicas it could hold."""
        return max(0, self.free - self.claimed) + self.own

    def lack(self, need: int) -> str:
        """Why it cannot hold what is needed; empty when it can."""
        if self.room >= need:
            return ""
        if not self.offered and not self.own:
            if not self.obstacles:
                return f"no node offers {self.device}"
            return f"no node that offers {self.device} takes its pods ({self._told_obstacles()})"
        told = f"of {self.offered} {self.device} {_are(self.free)} free, {_are(need)} needed"
        if self.own:
            told += f", it has {self.own}"
        if self.older:
            told += f", the revision before it holds {self.older}"
        if self.claimed:
            told += f", pods that wait ask for {self.claimed}"
        return told + (f" ({self._told_obstacles()})" if self.obstacles else "")

    def never_fits(self, need: int) -> bool:
        """Whether waiting cannot help while the revision that is to be replaced runs."""
        return bool(self.older) and self.offered - self.older < need

    def frees(self, need: int) -> bool:
        """Whether there is no room now, and will be when the revision that is to be replaced is gone."""
        return self.room < need <= self.room + self.older

    def _told_obstacles(self) -> str:
        rest = len(self.obstacles) - _MOST_OBSTACLES
        return "; ".join(self.obstacles[:_MOST_OBSTACLES]) + (f"; {rest} more" if rest > 0 else "")


def is_accelerator(resource: str) -> bool:
    """Whether a resource's name is a vendor's of accelerators."""
    return resource.startswith(_VENDORS)


def holder(pod: Manifest, owner: Owner | None = None) -> Holder | None:
    """What a pod takes; None for one that takes nothing, has ended, or is held back by whoever made it."""
    spec, metadata = pod.get("spec") or {}, pod["metadata"]
    if (pod.get("status") or {}).get("phase") in _ENDED or spec.get("schedulingGates"):
        return None
    amounts = amounts_of(spec)
    return Holder(metadata["uid"], amounts, spec.get("nodeName") or "", owner) if amounts else None


def amounts_of(pod_spec: Mapping[str, Any]) -> dict[str, int]:
    """Accelerators of a whole pod, as the scheduler counts: what runs together adds up, what runs before does not."""
    together: Counter[str] = Counter()
    before: dict[str, int] = {}
    for one in pod_spec.get("initContainers") or ():
        if one.get("restartPolicy") == "Always":
            together.update(_limits(one))
        else:
            before |= {name: max(count, before.get(name, 0)) for name, count in _limits(one).items()}
    for one in pod_spec.get("containers") or ():
        together.update(_limits(one))
    return {name: max(together[name], before.get(name, 0)) for name in (*together, *before)}


def stock(
    device: str,
    tolerations: Sequence[Mapping[str, Any]],
    nodes: Mapping[str, Manifest],
    holders: Iterable[Holder],
    mine: Owner,
) -> Stock:
    """How it stands with a device for one revision. What waiting pods ask for, the model's own aside, is claimed."""
    held: Counter[str] = Counter()
    own = older = claimed = 0
    for one in holders:
        count = one.amounts.get(device, 0)
        is_ours = one.owner is not None and one.owner[:2] == mine[:2]
        if one.node:
            held[one.node] += count
            works = one.node in nodes and is_ready(nodes[one.node])
            own += count if one.owner == mine and works else 0
            older += count if is_ours and one.owner != mine else 0
        elif not is_ours:
            claimed += count
    offered, obstacles, free = 0, [], 0
    for name, node in sorted(nodes.items()):
        count = _count((node["status"].get("allocatable") or {}).get(device))
        if not count:
            continue
        if obstacle := obstacle_of(node, tolerations):
            obstacles.append(f"{name} {obstacle}")
        else:
            offered += count
            free += max(0, count - held[name])
    return Stock(device, offered, free, own, older, claimed, tuple(obstacles))


def obstacle_of(node: Manifest, tolerations: Sequence[Mapping[str, Any]]) -> str:
    """Why a node takes none of the pods with these tolerations; empty when it does."""
    if not is_ready(node):
        return "is not ready"
    if node["spec"].get("unschedulable"):
        return "is cordoned"
    if taint := closing_taint(node, tolerations):
        value = f"={taint['value']}" if taint.get("value") else ""
        return f"has the taint {taint['key']}{value}:{taint['effect']}"
    return ""


def closing_taint(node: Manifest, tolerations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first taint that keeps pods with these tolerations away."""
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") in _KEEPS_AWAY and not any(_tolerates(one, taint) for one in tolerations):
            found: Mapping[str, Any] = taint
            return found
    return None


def is_ready(node: Manifest) -> bool:
    """Whether its kubelet answers. One that never said so is not ready."""
    told = ready_condition(node)
    return told is not None and told["status"] == "True"


def ready_condition(node: Manifest) -> Mapping[str, Any] | None:
    """The node's word of itself."""
    return next((one for one in node["status"].get("conditions") or () if one["type"] == "Ready"), None)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    same_effect = toleration.get("effect") in (None, "", taint["effect"])
    same_key = toleration.get("key") in (None, "", taint["key"])
    any_value = toleration.get("operator") == "Exists"
    return same_effect and same_key and (any_value or toleration.get("value", "") == taint.get("value", ""))


def _limits(container: Mapping[str, Any]) -> dict[str, int]:
    """Of an extended resource the limit is the request."""
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: _count(amount) for name, amount in limits.items() if is_accelerator(name) and _count(amount)}


def _count(amount: object) -> int:
    """Whole by the rules of extended resources; a thousand of them may come as `1k`."""
    text = str(amount or 0)
    number, factor = (text[:-1], 1000) if text.endswith("k") else (text, 1)
    return int(number) * factor if number.isdecimal() else 0


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"
