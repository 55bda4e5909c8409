"""Pods really run: the node, the network, DNS, logs, exec and port-forward are those of any cluster."""

import urllib.request

import kubernetes
import pytest

from cluster.access import Cluster
from cluster.layout import NODE_NAME
from cluster.workloads import container, deployment, pod, service

WEB = ("/bin/sh", "-c", "mkdir /www && echo hello-from-the-pod > /www/index.html && exec httpd -f -v -p 8080 -h /www")


@pytest.fixture(scope="module")
def busybox(cluster: Cluster) -> str:
    return cluster.load_image(cluster.images.busybox())


@pytest.fixture
def web(cluster: Cluster, namespace: str, busybox: str) -> str:
    """A web server of two pods behind a Service; returns the namespace."""
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    cluster.apply(
        deployment("web", container(busybox, WEB, readinessProbe=probe), replicas=2),
        service("web", 80, 8080),
        namespace=namespace,
    )
    cluster.wait("deployment/web", "condition=Available", namespace)
    return namespace


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode().strip())


def test_the_real_node_is_ready(cluster: Cluster) -> None:
    node = cluster.get(f"node/{NODE_NAME}")
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.34.4"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


def test_the_python_client_reaches_the_api_from_the_test_process(cluster: Cluster) -> None:
    nodes = kubernetes.client.CoreV1Api(cluster.api_client()).list_node().items
    assert NODE_NAME in [node.to_dict()["metadata"]["name"] for node in nodes]


def test_a_pod_reaches_a_service_by_its_dns_name_and_by_its_address(cluster: Cluster, web: str, busybox: str) -> None:
    address = cluster.get("service/web", web)["spec"]["clusterIP"]
    script = f"set -e; wget -qO- http://web; wget -qO- http://web.{web}.svc.cluster.local; wget -qO- http://{address}"
    cluster.apply(pod("client", container(busybox, ("/bin/sh", "-c", script))), namespace=web)
    cluster.wait("pod/client", "jsonpath={.status.phase}=Succeeded", web)
    assert cluster.kubectl("logs", "client", "--namespace", web).split() == ["hello-from-the-pod"] * 3


def test_logs_and_exec_come_from_the_container(cluster: Cluster, web: str) -> None:
    pods = [pod["metadata"]["name"] for pod in cluster.get("pods", web)["items"]]
    seen = cluster.kubectl("exec", pods[0], "--namespace", web, "--", "cat", "/www/index.html", "/etc/hostname")
    assert seen.split() == ["hello-from-the-pod", pods[0]]
    assert "response:200" in cluster.kubectl("logs", pods[0], "--namespace", web)


def test_port_forward_carries_a_call_from_outside(cluster: Cluster, web: str) -> None:
    with cluster.port_forward("service/web", 80, web) as port:
        assert read(f"http://127.0.0.1:{port}/") == "hello-from-the-pod"


def test_a_forwarded_port_reaches_a_service_without_kubectl(cluster: Cluster, web: str) -> None:
    address = cluster.get("service/web", web)["spec"]["clusterIP"]
    port = cluster.forward(address, 80)
    assert [read(f"http://127.0.0.1:{port}/") for _ in range(5)] == ["hello-from-the-pod"] * 5


def test_a_pod_ends_out_of_memory_as_on_any_node(cluster: Cluster, namespace: str, busybox: str) -> None:
    eat = ("/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1")
    limits = {"limits": {"memory": "20Mi"}}
    cluster.apply(pod("hungry", container(busybox, eat, resources=limits)), namespace=namespace)
    cluster.wait("pod/hungry", "jsonpath={.status.phase}=Failed", namespace)
    ended = cluster.get("pod/hungry", namespace)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["reason"] == "OOMKilled"
