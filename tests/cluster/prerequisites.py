"""What a machine must have before a cluster can start: root, Debian's packages, the built binaries."""

import os
import shutil
from pathlib import Path

from cluster.binaries import binaries
from cluster.layout import CHECKOUT

PROGRAMS = (
    "buildah",
    "busybox",
    "conntrack",
    "containerd",
    "docker-registry",
    "ip",
    "iptables",
    "mmdebstrap",
    "nsenter",
    "openssl",
    "runc",
    "unshare",
)
NETWORK_PLUGINS = Path("/usr/lib/cni")


def missing(checkout: Path = CHECKOUT) -> list[str]:
    """What is missing, each with what to do; empty when a cluster can start."""
    lacking = []
    if os.geteuid() != 0:
        lacking.append("the cluster makes namespaces and mounts: run as root")
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if not (NETWORK_PLUGINS / "bridge").is_file():
        absent.append(f"{NETWORK_PLUGINS}/bridge")
    if absent:
        lacking.append(f"not installed: {', '.join(absent)}: run tests/system-packages.sh cluster")
    unbuilt = binaries(checkout).missing()
    if unbuilt:
        lacking.append(f"not built: {', '.join(unbuilt)}: run make cluster-prepare (half an hour, once)")
    return lacking
