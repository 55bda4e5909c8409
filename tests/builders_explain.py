"""Pods, nodes and Deployments as the API server tells of them, for what is explained of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

from atalaya_operator.desired_state import revision
from atalaya_operator.essence import node_essence, pod_essence
from atalaya_operator.explain.case import Asked, Case, Warned
from atalaya_operator.explain.pods import pod
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import Platform
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Decisions, PinnedVersion
from builders_operator import PLAIN, inference_model

Manifest = dict[str, Any]
NOW = "2026-01-01T00:10:00Z"
STARTED = "2026-01-01T00:09:30Z"


def target(platform: Platform = PLAIN, **spec: Any) -> Target:
    """What a model asks for, on the first device that it names."""
    model = inference_model("m", **spec)
    decided = revision(model, Decisions((PinnedVersion(3),), model.spec.devices[0]), platform)
    return Target(Subject(model, "uid-m"), decided, platform)


def container(name: str = "server", **told: Any) -> Manifest:
    """A container's status; `running`, `waiting`, `terminated` and `last` are its states."""
    state = {key: told.pop(key) for key in ("running", "waiting", "terminated") if key in told}
    last = told.pop("last", None)
    return {"name": name, "ready": False, "started": False, "restartCount": 0, "state": state,
            "lastState": {"terminated": last} if last else {}, **told}  # fmt: skip


def running(name: str = "server", since: str = STARTED, **told: Any) -> Manifest:
    return container(name, running={"startedAt": since}, **told)


def waiting(reason: str, message: str = "", name: str = "server", **told: Any) -> Manifest:
    return container(name, waiting={"reason": reason, "message": message}, **told)


def failed(message: str = "", code: int = 1, reason: str = "Error", name: str = "server") -> Manifest:
    """A container that waits for its next try."""
    last = {"exitCode": code, "reason": reason, "message": message, "finishedAt": STARTED}
    return waiting("CrashLoopBackOff", f"back-off 10s restarting failed container={name}", name, last=last)


def a_pod(
    *containers: Manifest, name: str = "m-1", node: str | None = "n1", conditions: Iterable[Manifest] = (),
    inits: Iterable[Manifest] = (), revision_digest: str = "", **status: Any,
) -> Manifest:  # fmt: skip
    """A pod of the revision of `target()` without a digest of its own; the server's image is `server:1`."""

    def wanted(told: Manifest) -> Manifest:
        limits = {"limits": {"memory": "64Mi"}}
        return {"name": told["name"], "image": f"{told['name']}:1", "resources": limits}

    labels = {"serving.atalaya.dev/model": "m", "serving.atalaya.dev/revision": revision_digest}
    spec: Manifest = {"containers": [wanted(one) for one in containers or (container(),)],
                      "initContainers": [wanted(one) for one in inits]}  # fmt: skip
    if node:
        spec["nodeName"] = node
        conditions = (*conditions, condition("PodScheduled", "True"))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "1",
                     "labels": labels},
        "spec": spec,
        "status": {"phase": "Pending", "containerStatuses": list(containers), "initContainerStatuses": list(inits),
                   "conditions": list(conditions), **status},
    }  # fmt: skip


def condition(kind: str, status: str, message: str = "", since: str = "2026-01-01T00:09:00Z", **told: Any) -> Manifest:
    return {"type": kind, "status": status, "message": message, "lastTransitionTime": since, **told}


def unscheduled(message: str, name: str = "m-1", **told: Any) -> Manifest:
    """A pod that the scheduler finds no node for."""
    said = condition("PodScheduled", "False", message, reason="Unschedulable")
    made = a_pod(name=name, node=None, conditions=[said])
    made["spec"] |= told
    return made


def a_node(name: str = "n1", *, ready: str = "True", message: str = "", **told: Any) -> Manifest:
    """`allocatable` beside cores; `taints` by their keys; `cordoned`."""
    taints = [{"key": key, "effect": "NoSchedule"} for key in told.get("taints", ())]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {"unschedulable": told.get("cordoned", False), "taints": taints},
        "status": {
            "allocatable": {"cpu": "4", **told.get("allocatable", {})},
            "conditions": [condition("Ready", ready, message)],
        },
    }


def refused(message: str) -> Manifest:
    """A Deployment whose pods the API server refuses."""
    return {"kind": "Deployment", "status": {"conditions": [condition("ReplicaFailure", "True", message)]}}


def case_of(
    *pods: Manifest, nodes: Iterable[Manifest] = (), deployment: Manifest | None = None,
    warnings: Mapping[str, tuple[Warned, ...]] | None = None, logs: Mapping[tuple[str, str], str] | None = None,
    **spec: Any,
) -> Case:  # fmt: skip
    """Where no nodes are told there is one, `n1`, that works."""
    known = {one["metadata"]["name"]: node_essence(one) for one in nodes or (a_node(),)}
    seen = tuple(pod(pod_essence(one)) for one in pods)
    return Case(target(**spec), deployment, seen, known, NOW, Asked(warnings or {}, logs or {}))
