"""The cgroup below which the kubelet puts all pods of one cluster, in whichever hierarchies this machine has.

A root of its own keeps two kubelets on one machine from ending each other's pods as orphans.
"""

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_UNIFIED_CONTROLLERS = "+cpu +cpuset +memory +pids +io"


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The mounted hierarchies that take pods: one for cgroup v2, one a controller for v1."""
    if (root / "cgroup.controllers").is_file():
        return [root]
    return sorted(folder for folder in root.iterdir() if folder.name != "unified" and _is_mounted(folder))


def create(name: str, root: Path = ROOT) -> None:
    for hierarchy in hierarchies(root):
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        if hierarchy == root:
            for subtree in (hierarchy, folder):
                (subtree / "cgroup.subtree_control").write_text(_UNIFIED_CONTROLLERS)
        for limit in ("cpuset.cpus", "cpuset.mems"):  # v1 starts them empty, which lets no process in
            if hierarchy != root and (hierarchy / limit).is_file():
                (folder / limit).write_text((hierarchy / limit).read_text())


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the empty folders; the processes in them ended with their namespace."""
    for hierarchy in hierarchies(root):
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            Path(folder).rmdir()


def _is_mounted(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and (folder / "cgroup.procs").is_file()
