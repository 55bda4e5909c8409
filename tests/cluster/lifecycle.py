"""How a cluster comes up and ends: the story on one screen. What each program is told lies in the modules beside it."""

import shutil
import time
from collections.abc import Sequence

from cluster import addons, cgroups, control_plane, fake_nodes, prerequisites, real_node
from cluster import namespace as namespaces
from cluster.access import Cluster
from cluster.control_plane import Secrets
from cluster.errors import ClusterFault
from cluster.fake_nodes import STANDARD_NODES, FakeNode
from cluster.layout import NODE_NAME, Layout
from cluster.pki import write_kubeconfig
from cluster.slots import State, end_what_runs

START_SECONDS = 120


class RunningCluster:
    """A cluster that this process started, and therefore ends."""

    def __init__(self, layout: Layout) -> None:
        self._made = namespaces.create(layout.name, layout.run)
        self.cluster = Cluster(layout, self._made.namespace)
        self._began = time.monotonic()
        self.save(ready=False)

    def save(self, *, ready: bool) -> None:
        state = State(self._made.namespace.init, self.cluster.processes.ids, ready)
        state.write(self.cluster.layout.state_file)

    def mark(self, step: str) -> None:
        self.cluster.started[step] = round(time.monotonic() - self._began, 1)

    def end(self) -> None:
        self.cluster.close()
        self._made.namespace.end()
        self._made.parent.wait(timeout=60)
        self.cluster.processes.reap()
        end_what_runs(self.cluster.layout)


def start(
    layout: Layout, nodes: Sequence[FakeNode] = STANDARD_NODES, controller_flags: Sequence[str] = ()
) -> RunningCluster:
    """A cluster that is ready for work; the caller holds the slot's lock. A failed start leaves only its logs."""
    lacking = prerequisites.missing(layout.checkout)
    if lacking:
        raise ClusterFault("; ".join(lacking))
    end_what_runs(layout)
    shutil.rmtree(layout.logs, ignore_errors=True)
    for folder in (layout.run, layout.logs, layout.config):
        folder.mkdir(parents=True, exist_ok=True)
    cgroups.create(layout.name)
    running = RunningCluster(layout)
    try:
        _bring_up(running, nodes, controller_flags)
    except BaseException:
        running.end()
        raise
    running.save(ready=True)
    return running


def _bring_up(running: RunningCluster, nodes: Sequence[FakeNode], controller_flags: Sequence[str]) -> None:
    cluster = running.cluster
    secrets = control_plane.make_secrets(cluster.layout)
    _start_stores(cluster, secrets)
    _load_own_images(cluster)
    running.mark("images loaded")
    server = cluster.forward_api()
    write_kubeconfig(cluster.layout.kubeconfig, server, secrets.authority.certificate, secrets.admin)
    cluster.wait_for_api_server()
    running.mark("API server ready")
    _start_nodes(cluster, secrets, controller_flags)
    cluster.kubectl("apply", "--server-side", *(f"--filename={file}" for file in addons.manifest_files()))
    cluster.apply(*(node.manifest() for node in nodes))
    cluster.wait(f"node/{NODE_NAME}", "condition=Ready", timeout_seconds=START_SECONDS)
    running.mark("node Ready")
    for node in nodes:
        cluster.wait(f"node/{node.name}", "condition=Ready", timeout_seconds=START_SECONDS)
    cluster.wait("deployment/coredns", "condition=Available", "kube-system", START_SECONDS)
    running.mark("DNS available")
    cluster.wait("apiservice/v1beta1.metrics.k8s.io", "condition=Available", timeout_seconds=START_SECONDS)
    cluster.processes.check()
    running.mark("ready")


def _start_stores(cluster: Cluster, secrets: Secrets) -> None:
    """What the rest needs: etcd and the API server, containerd and the registry."""
    built, layout = cluster.binaries, cluster.layout
    cluster.spawn("etcd", control_plane.etcd(built, layout))
    cluster.spawn("kube-apiserver", control_plane.apiserver(built, layout, secrets))
    cluster.spawn("registry", real_node.registry(layout))
    cluster.spawn("containerd", real_node.containerd(layout))


def _load_own_images(cluster: Cluster) -> None:
    cluster.until("containerd answers", lambda: cluster.namespace.run(real_node.CONTAINERD_VERSION))
    cluster.load_image(cluster.images.busybox(real_node.PAUSE_IMAGE))
    cluster.load_image(cluster.images.coredns(cluster.binaries.path("coredns")))


def _start_nodes(cluster: Cluster, secrets: Secrets, controller_flags: Sequence[str]) -> None:
    built, layout = cluster.binaries, cluster.layout
    cluster.spawn("kubelet", real_node.kubelet(built, layout, secrets))
    controllers = [*control_plane.controller_manager(built, layout, secrets), *controller_flags]
    cluster.spawn("kube-controller-manager", controllers)
    cluster.spawn("kube-scheduler", control_plane.scheduler(built, layout))
    cluster.spawn("kube-proxy", real_node.proxy(built, layout))
    cluster.spawn("kwok", fake_nodes.kwok(built, layout))
    cluster.spawn("metrics-server", addons.metrics_server(built, layout))
