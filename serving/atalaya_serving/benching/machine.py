"""The machine that a figure belongs to, and what else it did meanwhile: steal, other programs, load.

A figure without these cannot be compared with another: virtual machines lose up to half of their time to their host.
"""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from atalaya_serving.benching.records import Noise
from atalaya_serving.scoring.environment import machine

# What decides how fast numbers are multiplied.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")
_PACKAGES = ("atalaya", "openvino", "tensorflow", "grpcio", "numpy", "protobuf", "uvicorn")


def about_machine() -> dict[str, Any]:
    """Processor, its flags, cores, memory, system and the versions of what computes."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return {
        **machine(),
        "processor_flags": processor_flags(text),
        "usable_cores": len(usable_cores()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def processor_flags(cpuinfo: str) -> list[str]:
    """Those flags of the kernel's text that matter for inference."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    there = set(line.partition(":")[2].split())
    return [flag for flag in _FLAGS if flag in there]


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(psutil.cpu_count() or 1))


@dataclass(frozen=True)
class Ticks:
    """The kernel's count of all cores' time since it started, in seconds."""

    total: float
    idle: float
    steal: float

    @classmethod
    def now(cls) -> "Ticks":
        """Read /proc/stat."""
        times = psutil.cpu_times()
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
        idle = times.idle + getattr(times, "iowait", 0.0)
        return cls(sum(times) - guests, idle, getattr(times, "steal", 0.0))


def noise(before: Ticks, after: Ticks, own_cpu_seconds: float | None, load_1m: float) -> Noise:
    """What else took the processors between two moments; `own_cpu_seconds` is what client and servers used. Pure."""
    total = after.total - before.total
    if total <= 0:
        return Noise(0.0, None, load_1m)
    steal = max(0.0, after.steal - before.steal) / total
    others = None
    if own_cpu_seconds is not None:
        busy = total - (after.idle - before.idle) - (after.steal - before.steal)
        others = min(1.0, max(0.0, (busy - own_cpu_seconds) / total))
    return Noise(steal, others, load_1m)


def load_1m() -> float:
    """The load average of the last minute."""
    return psutil.getloadavg()[0]


def worst(every: Iterable[Noise]) -> Noise:
    """The largest of each: a figure is as doubtful as the round that was disturbed most."""
    known = list(every)
    others = [one.others for one in known if one.others is not None]
    return Noise(max(one.steal for one in known), max(others) if others else None, max(one.load_1m for one in known))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
