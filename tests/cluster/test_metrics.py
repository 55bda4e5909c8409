"""metrics-server measures real pods, and the autoscaler acts on it."""

from cluster.access import Cluster
from cluster.layout import NODE_NAME
from cluster.workloads import container, cpu_autoscaler, deployment

BUSY = ("/bin/sh", "-c", "while :; do :; done")
SLICE = {"requests": {"cpu": "20m"}, "limits": {"cpu": "100m"}}


def test_the_autoscaler_grows_what_is_busy_and_kubectl_top_shows_it(cluster: Cluster, namespace: str) -> None:
    image = cluster.load_image(cluster.images.busybox())
    cluster.apply(
        deployment("busy", container(image, BUSY, resources=SLICE)),
        cpu_autoscaler("busy", maximum=2, percent=50),
        namespace=namespace,
    )
    cluster.wait("hpa/busy", "jsonpath={.status.desiredReplicas}=2", namespace, timeout_seconds=120)
    cluster.wait("deployment/busy", "jsonpath={.status.readyReplicas}=2", namespace)
    name, cpu, memory = cluster.kubectl("top", "pods", "--namespace", namespace, "--no-headers").split()[:3]
    assert name.startswith("busy-")
    assert int(cpu.removesuffix("m")) > 50
    assert memory.endswith("Mi")
    assert NODE_NAME in cluster.kubectl("top", "nodes")
