"""cert-manager beside the test cluster, as processes: its controller, and what writes authorities into webhooks."""

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.access import Cluster
from cluster.binaries import CERT_MANAGER_KINDS
from cluster.errors import ClusterFault

PROGRAMS = ("cert-manager-controller", "cert-manager-cainjector")


@contextmanager
def cert_manager(cluster: Cluster) -> Iterator[None]:
    """For the time of a test. Its own webhook, which only checks what users write, is left out."""
    for file, definition in CERT_MANAGER_KINDS.items():
        text = cluster.binaries.path(file).read_text()
        plain = "\n".join(line for line in text.splitlines() if "{{" not in line)  # labels, from Helm's template
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=plain)
        cluster.wait(f"crd/{definition}", "condition=Established")
        cluster.until("Helm can find it", lambda name=definition: is_listed(cluster, name))
    options = (f"--kubeconfig={cluster.layout.inner_kubeconfig}", "--leader-elect=false")
    for program in PROGRAMS:
        cluster.spawn(program, [cluster.binaries.path(program), *options])
    try:
        yield
    finally:
        for program in PROGRAMS:
            cluster.processes.stop(program)
        cluster.kubectl("delete", *(f"crd/{definition}" for definition in CERT_MANAGER_KINDS.values()))


def is_listed(cluster: Cluster, definition: str) -> None:
    """Among the resources of its group, where an API server shows it a moment after it is established."""
    plural, _, group = definition.partition(".")
    if f'"name":"{plural}"' not in cluster.kubectl("get", "--raw", f"/apis/{group}/v1"):
        raise ClusterFault(f"{definition} is not listed yet")
