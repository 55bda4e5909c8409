"""A node that is lost: it explains whatever else is told of its pods."""

from atalaya_operator.explain.case import Case
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.pods import Pod
from atalaya_operator.explain.reasons import NODE_LOST
from atalaya_operator.revision import Manifest


def node_lost(one: Pod, case: Case) -> Finding | None:
    """Also of a pod that is to go and cannot, because nobody is there to end it."""
    if not one.node or one.is_ready or one.phase in ("Failed", "Succeeded"):
        return None
    fact = why_lost(case.nodes.get(one.node))
    if fact is None:
        return None
    message = f"node {one.node} of pod {one.name} {fact}"
    return finding(NODE_LOST, message, one.node, **case.words(one))


def why_lost(node: Manifest | None) -> str | None:
    """What is wrong with a node, for people; None when it works."""
    if node is None:
        return "is no more."
    ready = next(iter(node["status"]["conditions"]), None)
    if ready is not None and ready.get("status") == "True":
        return None
    said = (ready or {}).get("message") or "its kubelet never told of itself."
    return f"is not ready: {said}"
