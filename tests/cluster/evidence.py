"""What to look at after a test failed: objects, events, pods' logs, the end of each component's log; in one folder."""

import json
from pathlib import Path

from cluster.access import Cluster

TAIL_LINES = 300
_VIEWS = {
    "objects.txt": ("get", "all,events,ingresses,persistentvolumeclaims", "--all-namespaces", "--output=wide"),
    "nodes.txt": ("describe", "nodes"),
    "pods.txt": ("describe", "pods", "--all-namespaces"),
}


def collect(cluster: Cluster, folder: Path) -> Path:
    """Write what can be had; what the API server does not answer is written as its error."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in _VIEWS.items():
        answer = cluster.try_kubectl(*arguments)
        (folder / name).write_text(answer.stdout + answer.stderr)
    _collect_pod_logs(cluster, folder)
    for log in cluster.layout.logs.glob("*.log"):
        (folder / log.name).write_text("\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]))
    return folder


def _collect_pod_logs(cluster: Cluster, folder: Path) -> None:
    listed = cluster.try_kubectl("get", "pods", "--all-namespaces", "--output=json")
    pods = json.loads(listed.stdout)["items"] if listed.returncode == 0 else []
    for pod in pods:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if pod["spec"].get("nodeName", "").startswith("fake-"):
            continue
        options = ("--namespace", namespace, "--all-containers", "--prefix", f"--tail={TAIL_LINES}")
        answer = cluster.try_kubectl("logs", name, *options)
        (folder / f"pod-{namespace}-{name}.log").write_text(answer.stdout + answer.stderr)
