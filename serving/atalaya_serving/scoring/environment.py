"""What kind of machine answers: processor, cores, memory, system, container or not, cloud or not. Asks no network."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import psutil

# What the makers of cloud machines write into the firmware's tables.
_CLOUDS = {
    "amazon ec2": "aws",
    "google compute engine": "gcp",
    "google": "gcp",
    "7783-7084-3265-9085-8269-3286-77": "azure",  # Azure's chassis tag; its vendor is that of any Hyper-V machine
    "digitalocean": "digitalocean",
    "hetzner": "hetzner",
    "alibaba cloud": "alibaba",
    "oraclecloud.com": "oracle",
    "openstack foundation": "openstack",
    "scaleway": "scaleway",
    "ovh": "ovh",
}
_DMI_FIELDS = ("sys_vendor", "product_name", "board_vendor", "bios_vendor", "chassis_asset_tag", "bios_version")
_CONTAINER_WORDS = ("docker", "kubepods", "containerd", "/lxc/", "libpod")


@cache
def machine() -> dict[str, str | int | bool]:
    """The fields of `Environment` that the machine decides."""
    name, version = _system()
    return {
        "processor": _processor(Path("/proc/cpuinfo")),
        "physical_cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "logical_cores": psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "os": name,
        "os_version": version,
        "container": is_container(Path("/"), os.environ),
        "cloud": cloud(Path("/sys/class/dmi/id")),
    }


def is_container(root: Path, env: Mapping[str, str]) -> bool:
    """Whether the process runs in a container, by the marks that the runtimes leave."""
    if "KUBERNETES_SERVICE_HOST" in env or "container" in env:
        return True
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return True
    return any(word in _text(root / "proc/1/cgroup") for word in _CONTAINER_WORDS)


def cloud(dmi: Path) -> str:
    """The cloud's name by the machine's firmware, or "" where nothing says so."""
    told = [_text(dmi / field).strip().lower() for field in _DMI_FIELDS]
    return next((name for mark, name in _CLOUDS.items() if any(field.startswith(mark) for field in told)), "")


def _processor(cpuinfo: Path) -> str:
    for line in _text(cpuinfo).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> tuple[str, str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system(), platform.release()
    return release.get("NAME", platform.system()), release.get("VERSION_ID", platform.release())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
