"""The faults that a model's status must explain: how each is made, by which fact it shows, how it is repaired."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

from cluster.access import Cluster
from cluster.chronicle import Holds, Manifest
from cluster.fake_nodes import FakeNode
from cluster.workloads import container, pod, toleration

MISSING_DEVICE, SCARCE_DEVICE = "gpu.intel.com/i915", "nvidia.com/mig-1g.5gb"
SCARCE_NODE, ADDED_NODE = "fake-scarce", "fake-i915"
Act = Callable[[Cluster, str], None]


def nothing(cluster: Cluster, namespace: str) -> None:
    """Nothing is to be done."""


@dataclass(frozen=True)
class Fault:
    """`spec` is laid over that of a model that serves. A repair is another spec, an act, or both.

    `fact` and `repaired` are what the API server shows of them: a kind and what holds of one object of it.
    """

    name: str
    reason: str
    fact: tuple[str, Holds]
    evidence: tuple[str, ...]
    step: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    before: Act = nothing
    inject: Act | None = None
    """When it is made of a model that serves already."""
    repair: Act = nothing
    repaired: tuple[str, Holds] | None = None

    @property
    def is_of_spec(self) -> bool:
        """Whether it is repaired by the spec of a model that serves."""
        return self.repair is nothing


def waits_for(*reasons: str) -> Holds:
    """A pod one of whose containers waits so."""
    return lambda one: any(
        (state["state"].get("waiting") or {}).get("reason") in reasons for state in _states(one, "containerStatuses")
    )


def ended(of: str = "containerStatuses", reason: str = "") -> Holds:
    """A pod one of whose containers failed."""

    def holds(one: Manifest) -> bool:
        found = [
            state[when]["terminated"]
            for state in _states(one, of)
            for when in ("state", "lastState")
            if state.get(when, {}).get("terminated")
        ]
        return any(end["exitCode"] != 0 and reason in (end.get("reason", "")) for end in found)

    return holds


def has_condition(kind: str, status: str) -> Holds:
    """An object with a condition."""
    return lambda one: any(
        told["type"] == kind and told["status"] == status for told in one.get("status", {}).get("conditions", ())
    )


def was_ready_and_is_not(one: Manifest) -> bool:
    started = any(state.get("started") for state in _states(one, "containerStatuses"))
    return started and has_condition("Ready", "False")(one)


def _states(one: Manifest, of: str) -> list[Manifest]:
    return list(one.get("status", {}).get(of) or ())


def _quota(cluster: Cluster, namespace: str, pods: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"pods": pods}},
    }
    cluster.apply(quota, namespace=namespace)


def _take_the_device(cluster: Cluster, namespace: str) -> None:
    """A node with one device of a class, and a pod of somebody else that has it."""
    node = FakeNode(SCARCE_NODE, {SCARCE_DEVICE: 1})
    cluster.apply(node.manifest())
    cluster.wait(f"node/{node.name}", "condition=Ready")
    tolerations = [toleration(SCARCE_DEVICE)]
    cluster.apply(
        pod("holder", container("any:1", resources={"limits": {SCARCE_DEVICE: "1"}}), tolerations=tolerations),
        namespace=namespace,
    )
    cluster.wait("pod/holder", "condition=Ready", namespace)


def _give_the_device(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("delete", "pod/holder", "--namespace", namespace, "--wait=false")


def _add_a_node(cluster: Cluster, namespace: str) -> None:
    cluster.apply(FakeNode(ADDED_NODE, {MISSING_DEVICE: 1}).manifest())


def _in_the_server(cluster: Cluster, namespace: str, command: str) -> None:
    (name,) = (one["metadata"]["name"] for one in cluster.get("pods", namespace)["items"])
    shell = ["exec", name, "--container=server", "--namespace", namespace, "--", "/bin/sh", "-c", command]
    cluster.kubectl(*shell)


def _hang(cluster: Cluster, namespace: str) -> None:
    """The kubelet stops to do anything, as on a node that hangs; nsenter before it stops with it."""
    for program in psutil.Process(cluster.processes.ids["kubelet"].pid).children():
        program.suspend()


def _go_on(cluster: Cluster, namespace: str) -> None:
    entered = psutil.Process(cluster.processes.ids["kubelet"].pid)
    for program in (entered, *entered.children()):
        program.resume()


_READY_FILE = "/tmp/www/v2/models/m/versions/3/ready"
_FETCHED = "https://models.example.org/shelf"


def _fetch(word: str, evidence: str, step: str) -> Fault:
    spec = {"engine": "atalaya", "model": {"uri": f"{_FETCHED}/{word}"}}
    fact = ("pods", ended("initContainerStatuses"))
    return Fault(word, word, fact, (evidence, "did not get the model"), step, spec)


FAULTS = (
    Fault("image not found", "ImageNotFound", ("pods", waits_for("ErrImagePull", "ImagePullBackOff")),
          ("atalaya.test/nowhere:9", "not found", "node-1"), "push atalaya.test/nowhere:9, or correct spec.image",
          {"image": "atalaya.test/nowhere:9"}),
    Fault("image for another processor", "ImageArchitecture", ("pods", ended()),
          ("exec format error", "faulty:arm64", "node-1"), "build atalaya.test/faulty:arm64 for node node-1",
          {"image": "atalaya.test/faulty:arm64"}),
    Fault("image without its program", "ImageCannotRun", ("pods", ended()), ("/opt/server", "faulty:no-program"),
          "correct the entry point", {"image": "atalaya.test/faulty:no-program"}),
    Fault("crash loop", "CrashLoop", ("pods", ended()),
          ("ended with code 3", "its last line: server: libmodel.so: undefined symbol", "node-1"),
          "kubectl logs m-", {"image": "atalaya.test/faulty:crash"}),
    _fetch("ModelPathNotFound", "says no; mend it.", f"put the version's files below {_FETCHED}/ModelPathNotFound"),
    _fetch("ModelFileCorrupt", "says no; mend it.", "export the model again"),
    _fetch("BadCredentials", "says no; mend it.", "put the right keys into"),
    Fault("bad credentials, told by the engine", "BadCredentials", ("pods", ended()),
          ("the server of pod", "S3 Invalid access rights"), "Secret keys",
          {"image": "atalaya.test/faulty:bad-store", "model": {"credentialsSecret": "keys"}},
          before=lambda cluster, namespace: cluster.apply(
              {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}, namespace=namespace)),
    Fault("model path, told by a log", "ModelPathNotFound", ("pods", lambda one: bool(_states(one, "containerStatuses"))
          and "running" in _states(one, "containerStatuses")[0]["state"]),
          ("the server of pod", "No version found for model in path: /models/m"), "put the version's files below s3://",
          {"image": "atalaya.test/faulty:waiting"}),
    Fault("out of memory", "OutOfMemory", ("pods", ended(reason="OOMKilled")),
          ("container server", "memory limit of 48Mi", "node-1"), "raise spec.resources.limits.memory, now 48Mi",
          {"image": "atalaya.test/faulty:memory", "resources": {"limits": {"memory": "48Mi"}}}),
    Fault("no node with the device", "NoNodeWithDevice", ("pods", has_condition("PodScheduled", "False")),
          (MISSING_DEVICE, "none of"), f"add a node with {MISSING_DEVICE}",
          {"devices": [MISSING_DEVICE], "image": None},
          repair=_add_a_node, repaired=("nodes", lambda one: one["metadata"]["name"] == ADDED_NODE
                                        and has_condition("Ready", "True")(one))),
    Fault("device in use", "DeviceInUse", ("pods", has_condition("PodScheduled", "False")),
          (SCARCE_DEVICE, f"{SCARCE_NODE} (1)"), f"free a {SCARCE_DEVICE}",
          {"engine": "tensorflow", "devices": [SCARCE_DEVICE], "image": None},
          before=_take_the_device, repair=_give_the_device),
    Fault("quota exceeded", "QuotaExceeded", ("deployments", has_condition("ReplicaFailure", "True")),
          ("exceeded quota: tight", "pods=1"), "raise ResourceQuota tight",
          before=lambda cluster, namespace: _quota(cluster, namespace, "0"),
          repair=lambda cluster, namespace: _quota(cluster, namespace, "5")),
    Fault("loaded and not ready", "ProbeFailing", ("pods", was_ready_and_is_not),
          ("Readiness probe failed", "404", "node-1"), "kubectl logs m-",
          inject=lambda cluster, namespace: _in_the_server(cluster, namespace, f"rm {_READY_FILE}"),
          repair=lambda cluster, namespace: _in_the_server(cluster, namespace, f"echo ok > {_READY_FILE}"),
          repaired=("pods", has_condition("Ready", "True"))),
    Fault("node lost", "NodeLost", ("nodes", lambda one: one["metadata"]["name"] == "node-1"
                                    and has_condition("Ready", "Unknown")(one)),
          ("node node-1", "Kubelet stopped posting node status"), "repair node node-1",
          inject=_hang, repair=_go_on,
          repaired=("nodes", lambda one: one["metadata"]["name"] == "node-1" and has_condition("Ready", "True")(one))),
)  # fmt: skip


def model(overlay: Mapping[str, Any]) -> Manifest:
    """A model that serves, with what a fault changes."""
    spec: dict[str, Any] = {
        "engine": "openvino",
        "image": "atalaya.test/faulty:serve",
        "devices": ["cpu"],
        "resources": {"requests": {"cpu": "10m"}},
        **json.loads(json.dumps(dict(overlay))),
    }
    spec["model"] = {"uri": "s3://models/m", "versions": {"specific": [3]}, **dict(overlay.get("model", {}))}
    kept = {key: value for key, value in spec.items() if value is not None}
    return {
        "apiVersion": "serving.atalaya.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": "m"},
        "spec": kept,
    }
