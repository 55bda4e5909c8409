"""Nodes with accelerators that this machine does not have: KWOK plays their kubelet, the real scheduler believes it.

Each carries what the vendor's device plugin and feature discovery would put there, and a taint named as its resource,
so that a pod without an accelerator stays on the real node. Pods bound here become Ready at once and run nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.binaries import Binaries
from cluster.layout import FAKE_POD_RANGE, Layout

KWOK_ANNOTATION = "kwok.x-k8s.io/node"
FAKE_LABEL = "atalaya.test/fake-node"


@dataclass(frozen=True)
class FakeNode:
    """A node to be. `resources` like `{"nvidia.com/gpu": 2}`; each is a NoSchedule taint too when `tainted`."""

    name: str
    resources: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tainted: bool = True
    cpu: str = "32"
    memory: str = "256Gi"

    def manifest(self) -> dict[str, Any]:
        amounts = {"cpu": self.cpu, "memory": self.memory, "pods": "1000"}
        amounts |= {resource: str(count) for resource, count in self.resources.items()}
        taints = [{"key": resource, "value": "present", "effect": "NoSchedule"} for resource in self.resources]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "annotations": {KWOK_ANNOTATION: "fake"},
                "labels": {
                    FAKE_LABEL: "true",
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/hostname": self.name,
                    **self.labels,
                },
            },
            "spec": {"taints": taints if self.tainted else []},
            "status": {"allocatable": amounts, "capacity": amounts},
        }


STANDARD_NODES = (
    FakeNode(
        "fake-intel-gpu",
        {"gpu.intel.com/xe": 2},
        {"intel.feature.node.kubernetes.io/gpu": "true"},
    ),
    FakeNode(
        "fake-nvidia-gpu",
        {"nvidia.com/gpu": 2},
        {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-A10"},
    ),
    FakeNode(
        "fake-intel-npu",
        {"npu.intel.com/accel": 1},
        {"intel.feature.node.kubernetes.io/npu": "true"},
    ),
)


def kwok(built: Binaries, layout: Layout) -> list[str]:
    stages = ("stage-node-initialize.yaml", "stage-pod-ready.yaml", "stage-pod-complete.yaml", "stage-pod-delete.yaml")
    return [
        str(built.path("kwok")),
        f"--kubeconfig={layout.config / 'kwok.kubeconfig'}",
        f"--manage-nodes-with-annotation-selector={KWOK_ANNOTATION}=fake",
        *(f"--config={built.path(stage)}" for stage in stages),
        f"--cidr={FAKE_POD_RANGE}",
        "--node-lease-duration-seconds=40",
    ]
