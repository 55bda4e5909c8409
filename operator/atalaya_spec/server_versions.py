"""What each version of the model servers can do, as far as an InferenceModel may ask for it.

The versions and what they speak come from the servers' own tables, `ovms.py` and `tfs.py`; devices are told here.
"""

from collections.abc import Mapping

from atalaya_spec import ovms, tfs
from atalaya_spec.model_server import KSERVE_V2, TENSORFLOW_SERVING, minor
from atalaya_spec.problems import Refused, did_you_mean

OPENVINO, TENSORFLOW, ATALAYA = "openvino", "tensorflow", "atalaya"
ENGINES = (OPENVINO, TENSORFLOW, ATALAYA)
BACKENDS = (OPENVINO, TENSORFLOW)

PROTOCOLS = (KSERVE_V2, TENSORFLOW_SERVING)

CPU, INTEL_XE, INTEL_I915 = "cpu", "gpu.intel.com/xe", "gpu.intel.com/i915"
INTEL_NPU, NVIDIA = "npu.intel.com/accel", "nvidia.com/gpu"
NVIDIA_SHARED, NVIDIA_MIG_PREFIX = "nvidia.com/gpu.shared", "nvidia.com/mig-"
DEVICES = (CPU, INTEL_XE, INTEL_I915, INTEL_NPU, NVIDIA, NVIDIA_SHARED)
"""By the names under which device plugins offer them. Slices of an NVIDIA GPU begin with the prefix."""

# The minor releases whose flags and protocols are known, oldest first, with the newest patch release of each.
_KNOWN: Mapping[str, tuple[str, ...]] = {OPENVINO: ovms.VERSIONS, TENSORFLOW: tfs.VERSIONS}

# What an engine drives, by backend for our own server. https://docs.openvino.ai, https://www.tensorflow.org/tfx/serving
_DRIVES: Mapping[tuple[str, str], tuple[str, ...]] = {
    (OPENVINO, OPENVINO): (CPU, INTEL_XE, INTEL_I915, INTEL_NPU),
    (TENSORFLOW, TENSORFLOW): (CPU, NVIDIA),
    (ATALAYA, OPENVINO): (CPU, INTEL_XE, INTEL_I915),
    (ATALAYA, TENSORFLOW): (CPU,),
}


def backend_of(engine: str, backend: str | None) -> str:
    """The library that computes: the engine's own, or for our server what was chosen, OpenVINO by default."""
    return engine if engine != ATALAYA else backend or OPENVINO


def whole(device: str) -> str:
    """The device that another is a share or a slice of; itself for a whole one."""
    return NVIDIA if device == NVIDIA_SHARED or device.startswith(NVIDIA_MIG_PREFIX) else device


def drives(engine: str, backend: str | None) -> tuple[str, ...]:
    """The devices that an engine can compute on; `nvidia.com/gpu` stands for its shares and MIG slices too."""
    return _DRIVES[engine, backend_of(engine, backend)]


def is_driven(device: str, engine: str, backend: str | None) -> bool:
    """Whether an engine can compute on a device."""
    return whole(device) in drives(engine, backend)


def known_versions(engine: str) -> tuple[str, ...]:
    """The versions whose flags and protocols are known, oldest first; none for our own server."""
    return _KNOWN.get(engine, ())


def check_version(engine: str, version: str) -> None:
    """Raise Refused for a version whose flags and protocols are not known; patch releases follow their minor."""
    known = _KNOWN.get(engine, ())
    if known and minor(version) not in {minor(one) for one in known}:
        suggestion = did_you_mean(version, known) or f"write one from {known[0]} to {known[-1]}"
        raise Refused(f"{engine} {version} is not a version that is known here", suggestion)


def protocols_of(engine: str, version: str | None) -> tuple[str, ...]:
    """The protocols that a server speaks by itself; without a version, those of the newest known one."""
    if engine == ATALAYA:
        return PROTOCOLS
    newest = _KNOWN[engine][-1]
    server = ovms.server if engine == OPENVINO else tfs.server
    return server(version or newest).protocols
