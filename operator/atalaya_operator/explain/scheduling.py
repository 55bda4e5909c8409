"""Pods that get no node: what the scheduler says, held against what the nodes offer.

The scheduler says `Insufficient` of a device for nodes that are full and for nodes that never had one; the nodes' own
word tells the two apart.
"""

import re

from atalaya_operator.accelerators import closing_taint
from atalaya_operator.explain.case import Case
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.nodes import why_lost
from atalaya_operator.explain.pods import Pod
from atalaya_operator.explain.reasons import (
    DEVICE_IN_USE,
    DEVICE_NODES_CLOSED,
    NO_NODE_FITS,
    NO_NODE_WITH_DEVICE,
    NODES_FULL,
)
from atalaya_operator.revision import Manifest
from atalaya_spec.server_versions import CPU

_INSUFFICIENT = re.compile(r"(\d+) Insufficient ([\w./-]+?)(?=[,.]? |[,.]?$)")
_MOST_NAMED = 5


def no_node(one: Pod, case: Case) -> Finding | None:
    """Why the scheduler leaves a pod waiting."""
    if not one.not_scheduled:
        return None
    said = scheduler_words(one.not_scheduled)
    device = case.target.revision.device
    if device != CPU:
        found = _no_device(one, case, device, said)
        if found is not None:
            return found
    lacking = {name for _, name in _INSUFFICIENT.findall(said)}
    why = NODES_FULL if lacking - {device} else NO_NODE_FITS
    return finding(why, f"pod {one.name} finds no node: {said}", ",".join(sorted(lacking)), **case.words(one))


def _no_device(one: Pod, case: Case, device: str, said: str) -> Finding | None:
    having = {name: node for name, node in case.nodes.items() if offered(node, device)}
    if not having:
        message = f"pod {one.name} waits for {device}, which none of {len(case.nodes)} nodes has."
        return finding(NO_NODE_WITH_DEVICE, message, device, **case.words(one))
    closed = {name: why for name, node in having.items() if (why := why_closed(node, one))}
    if len(closed) == len(having):
        told = "; ".join(f"node {name} {why}" for name, why in sorted(closed.items())[:_MOST_NAMED])
        message = f"pod {one.name} waits for {device}: {told}"
        return finding(DEVICE_NODES_CLOSED, message, device, **case.words(one))
    if not _is_device_short(case, device, one, said):
        return None
    told = ", ".join(
        f"{name} ({offered(node, device)})" for name, node in sorted(having.items())[:_MOST_NAMED] if name not in closed
    )
    message = f"pod {one.name} waits for {device}: all are taken on {told}. The scheduler: {said}"
    return finding(DEVICE_IN_USE, message, device, **case.words(one))


def _is_device_short(case: Case, device: str, one: Pod, said: str) -> bool:
    """Whether a node that has the device lacks a free one; nodes without any are counted in the scheduler's words."""
    short = {name: int(count) for count, name in _INSUFFICIENT.findall(said)}
    if not set(short) - {device}:
        return device in short
    without = sum(1 for node in case.nodes.values() if not offered(node, device) and not why_closed(node, one))
    return short.get(device, 0) > without


def offered(node: Manifest, device: str) -> int:
    """How many of a device a node has, free or not."""
    return int(str(node["status"]["allocatable"].get(device, 0)))


def why_closed(node: Manifest, one: Pod) -> str | None:
    """Why a node takes no pods like this one; None when it does."""
    if node["spec"]["unschedulable"]:
        return "is cordoned."
    if lost := why_lost(node):
        return lost
    taint = closing_taint(node, one.tolerations)
    return f"has the taint {taint['key']}." if taint else None


def scheduler_words(text: str) -> str:
    """Without what it says of making room, which says the same again."""
    said = " ".join(text.partition(" preemption:")[0].split())
    return said.removesuffix(" no new claims to deallocate,")
