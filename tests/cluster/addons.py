"""What runs on top of a bare cluster: the cluster's DNS as a pod, metrics-server as a process behind an APIService."""

from pathlib import Path

from cluster.binaries import Binaries
from cluster.layout import Layout

MANIFESTS = Path(__file__).parent / "manifests"
METRICS_PORT = 4443


def manifest_files() -> list[Path]:
    return sorted(MANIFESTS.glob("*.yaml"))


def metrics_server(built: Binaries, layout: Layout) -> list[str]:
    kubeconfig = layout.config / "metrics-server.kubeconfig"
    return [
        str(built.path("metrics-server")),
        *(f"--{use}={kubeconfig}" for use in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")),
        f"--secure-port={METRICS_PORT}",
        f"--cert-dir={layout.run / 'metrics-server'}",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
        "--node-selector=!atalaya.test/fake-node",
    ]
