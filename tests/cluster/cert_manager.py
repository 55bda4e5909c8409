"""cert-manager beside the test cluster, as processes: its controller, and what writes authorities into webhooks."""

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.access import Cluster
from cluster.binaries import CERT_MANAGER_KINDS

PROGRAMS = ("cert-manager-controller", "cert-manager-cainjector")


@contextmanager
def cert_manager(cluster: Cluster) -> Iterator[None]:
    """For the time of a test. Its own webhook, which only checks what users write, is left out."""
    for file, definition in CERT_MANAGER_KINDS.items():
        text = cluster.binaries.path(file).read_text()
        plain = "\n".join(line for line in text.splitlines() if "{{" not in line)  # labels, from Helm's template
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=plain)
        cluster.wait(f"crd/{definition}", "condition=Established")
    options = (f"--kubeconfig={cluster.layout.inner_kubeconfig}", "--leader-elect=false")
    for program in PROGRAMS:
        cluster.spawn(program, [cluster.binaries.path(program), *options])
    try:
        yield
    finally:
        for program in PROGRAMS:
            cluster.processes.stop(program)
        cluster.kubectl("delete", *(f"crd/{definition}" for definition in CERT_MANAGER_KINDS.values()))
