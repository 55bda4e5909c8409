"""`prepare`, `up`, `down`, `status`, `shell`: the test cluster from the command line.

`up` returns and leaves the cluster running; `down` ends it. The tests use slots of their own and never touch it.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping

import psutil

from cluster import lifecycle, product_images
from cluster.access import Cluster, developer_cluster
from cluster.binaries import build
from cluster.errors import ClusterFault
from cluster.images import ImageStore
from cluster.layout import DEVELOPER_SLOT, Layout
from cluster.slots import SlotLock, State, end_what_runs


def up() -> None:
    layout = Layout(DEVELOPER_SLOT)
    lock = _locked(layout)
    build(layout.checkout)
    running = lifecycle.start(layout)
    lock.release()
    print(f"The cluster is ready after {running.cluster.started['ready']} s. Use it from this machine:")
    print(f"  export KUBECONFIG={layout.kubeconfig}")
    print(f"  export PATH={running.cluster.binaries.path('kubectl').parent}:$PATH")
    print("A shell inside, where pods and services have addresses:")
    print(f"  {shell_line(running.cluster)}")
    print("To end it: make cluster-down")


def down() -> None:
    layout = Layout(DEVELOPER_SLOT)
    _locked(layout)
    print("The cluster has ended." if end_what_runs(layout) else "No cluster was running.")


def status() -> None:
    layout = Layout(DEVELOPER_SLOT)
    cluster = developer_cluster()
    state = State.read(layout.state_file)
    assert state is not None
    for name, process in state.processes.items():
        print(f"{name:40} {'running' if process.is_alive() else f'ended; see {cluster.processes.log(name)}'}")
    print(f"memory of all programs: {memory_mebibytes(state)} MiB")
    print(cluster.kubectl("get", "nodes,pods", "--all-namespaces"), end="")


def shell() -> None:
    print(shell_line(developer_cluster()))


def shell_line(cluster: Cluster) -> str:
    folder = cluster.binaries.path("kubectl").parent
    inside = f"KUBECONFIG={cluster.layout.inner_kubeconfig} PATH={folder}:$PATH"
    return f"{inside} {shlex.join(cluster.namespace.command(['bash']))}"


def memory_mebibytes(state: State) -> int:
    """Resident memory of all that runs inside, pods included; pages shared by processes count in each."""
    roots = [psutil.Process(process.pid) for process in (state.init, *state.processes.values()) if process.is_alive()]
    inside = {child for root in roots for child in root.children(recursive=True)}
    return sum(process.memory_info().rss for process in inside) // 2**20


def _locked(layout: Layout) -> SlotLock:
    lock = SlotLock(layout)
    if not lock.take():
        raise ClusterFault(f"another command is at work on the cluster of {layout.checkout}: wait until it is done")
    return lock


def prepare() -> None:
    """All that is slow and done once: Go builds, the base image from Debian's packages, the product's images."""
    built = build()
    store = ImageStore()
    base = store.base()
    print(f"programs: {built.root}")
    print(f"base image for --build-arg BASE=…: {base.reference} in {base.archive}")
    for image in product_images.ALL:
        product_images.build(store, image)
        print(f"image: {image.reference}")


COMMANDS: Mapping[str, tuple[Callable[[], None], str]] = {
    "up": (up, "start a cluster and leave it running"),
    "down": (down, "end it, or what a crash left of it"),
    "status": (status, "what runs"),
    "shell": (shell, "print the line that opens a shell inside"),
    "prepare": (prepare, "build the programs and the images (once, half an hour)"),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster", description="A real Kubernetes cluster on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, help_text) in COMMANDS.items():
        commands.add_parser(name, help=help_text)
    try:
        COMMANDS[parser.parse_args(arguments).command][0]()
    except ClusterFault as fault:
        print(f"cluster: error: {fault}", file=sys.stderr)
        return 1
    return 0
