"""The namespaces that a cluster lives in: processes, mounts, network, host name, IPC.

As in a container of kind, the node's programs see standard paths (`/var/lib/kubelet`, `/run/containerd`, …), each bound
to a folder of this run, so that nothing of the machine's own is touched and nothing collides. All of it goes with the
first process (see init.py). Only the kernel, the root file system and the cgroup tree are shared.
"""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.errors import ClusterFault
from cluster.layout import NODE_ADDRESS
from cluster.processes import ProcessId

INIT_PROGRAM = Path(__file__).parent / "init.py"
PRIVATE_FOLDERS = {
    "kubelet": "/var/lib/kubelet",
    "containerd": "/var/lib/containerd",
    "containerd-run": "/run/containerd",
    "cni": "/var/lib/cni",
    "netns": "/run/netns",
    "pod-logs": "/var/log/pods",
    "container-logs": "/var/log/containers",
}
_NETWORK = f"""
ip link set lo up
ip link add node0 type bridge
ip address add {NODE_ADDRESS}/32 dev node0
ip link set node0 up
ip route add default dev node0
"""


@dataclass(frozen=True)
class Namespace:
    """A living set of namespaces, known by its first process."""

    init: ProcessId

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` inside."""
        enter = ["nsenter", "--target", str(self.init.pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--"]
        return [*enter, *(str(part) for part in argv)]

    def run(
        self, argv: Sequence[str | Path], *, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a short command inside and wait for it."""
        done = subprocess.run(self.command(argv), check=False, capture_output=True, text=True, env=environment)
        if check and done.returncode != 0:
            words = shlex.join(str(part) for part in argv)
            raise ClusterFault(f"`{words[:300]}` failed in the cluster's namespace: {done.stderr.strip()[-2000:]}")
        return done

    def end(self) -> None:
        self.init.kill()


@dataclass(frozen=True)
class NamespaceMaker:
    """Makes the namespaces; keeps the `unshare` process, which must be waited for at the end."""

    parent: "subprocess.Popen[str]"
    namespace: Namespace


def create(hostname: str, folder: Path) -> NamespaceMaker:
    """New namespaces with the private folders mounted and the node's network up."""
    unshare = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
    parent = subprocess.Popen(
        [*unshare, sys.executable, "-I", str(INIT_PROGRAM)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    with parent.stdout, parent.stderr:
        if parent.stdout.readline() != "ready\n":
            parent.kill()
            raise ClusterFault(f"cannot make namespaces for the cluster: {parent.stderr.read().strip()}; run as root")
    init = psutil.Process(parent.pid).children()[0]
    namespace = Namespace(ProcessId.of(init.pid))
    namespace.run(["sh", "-ec", f"hostname {shlex.quote(hostname)}\n{_mounts(folder)}\n{_NETWORK}"])
    return NamespaceMaker(parent, namespace)


def _mounts(folder: Path) -> str:
    lines = ["mount --make-rshared /"]  # rshared among these namespaces only: unshare cut it off from the machine's
    for name, target in PRIVATE_FOLDERS.items():
        source = folder / name
        source.mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
    return "\n".join(lines)
