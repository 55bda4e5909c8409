"""What a pod needs to be given a device: the resource, tolerations, groups, which nodes to prefer. Pure tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atalaya_operator.platform import Platform
from atalaya_spec.server_versions import CPU, INTEL_I915, INTEL_NPU, INTEL_XE, NVIDIA, whole

# Labels that the vendors' feature discovery puts on nodes with an accelerator.
ACCELERATOR_LABELS = (
    "intel.feature.node.kubernetes.io/gpu",
    "intel.feature.node.kubernetes.io/npu",
    "nvidia.com/gpu.present",
)
OPENVINO_DEVICE: Mapping[str, str] = {CPU: "CPU", INTEL_XE: "GPU", INTEL_I915: "GPU", INTEL_NPU: "NPU"}


@dataclass(frozen=True)
class Placement:
    """What a device adds to a pod."""

    limits: Mapping[str, str]
    pod: Mapping[str, Any]
    groups: tuple[int, ...] = ()


def is_nvidia(device: str) -> bool:
    """Whether it is an NVIDIA GPU, a share or a slice of one."""
    return whole(device) == NVIDIA


def tolerations(device: str) -> list[dict[str, str]]:
    """For the taint that keeps others away: named as the resource, and for a part of an NVIDIA GPU as the whole."""
    if device == CPU:
        return []
    keys = [device, *([NVIDIA] if is_nvidia(device) and device != NVIDIA else [])]
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]


def placement(device: str, platform: Platform) -> Placement:
    """The device plugin's resource is what binds a pod to a node; labels differ from cluster to cluster."""
    if device == CPU:
        return Placement({}, {"affinity": {"nodeAffinity": _away_from_accelerators()}})
    pod: dict[str, Any] = {"tolerations": tolerations(device)}
    if is_nvidia(device):
        runtime = {"runtimeClassName": platform.nvidia_runtime_class} if platform.nvidia_runtime_class else {}
        return Placement({device: "1"}, pod | runtime)
    return Placement({device: "1"}, pod, platform.accelerator_groups)


def _away_from_accelerators() -> dict[str, Any]:
    """A pod that computes on cores leaves nodes with accelerators to those that need them, where it can."""
    absent = [{"key": label, "operator": "DoesNotExist"} for label in ACCELERATOR_LABELS]
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 50, "preference": {"matchExpressions": absent}},
        ]
    }
