"""The operator as a process of its own beside the test cluster, under a user of its own, so that its calls count."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.access import Cluster
from cluster.pki import write_kubeconfig

USER = "atalaya-operator-test"
_READS = ("get", "list", "watch")


class OperatorProcess:
    """`python -m atalaya_operator`, started and stopped as often as a test likes."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.log = cluster, folder / "operator.log"
        self._kubeconfig = folder / "operator.kubeconfig"
        server = str(cluster.api_client().configuration.host)
        certificate = cluster.authority.issue(USER, f"/O=system:masters/CN={USER}")
        write_kubeconfig(self._kubeconfig, server, cluster.authority.certificate, certificate)
        self._health_port, self._metrics_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self._kubeconfig),
            "ATALAYA_OPERATOR_HEALTH_PORT": str(self._health_port),
            "ATALAYA_OPERATOR_METRICS_PORT": str(self._metrics_port),
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "atalaya_operator"]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """At once, as a lost node does it."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As a cluster asks a pod to end; answers the exit code."""
        return self._end(signal.SIGTERM)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def health(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/healthz", timeout=5) as answer:
            return int(answer.status)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def defects(self) -> str:
        """The log, when it tells of a defect of ours; empty when there is none."""
        text = self.log.read_text()
        return text if "a defect of Atalaya" in text else ""

    def calls(self, namespace: str) -> Counter[str]:
        """What it asked of a namespace so far, by verb and resource, from the API server's own record."""
        told: Counter[str] = Counter()
        for line in self.cluster.layout.audit_log.read_text().splitlines():
            if f'"username":"{USER}"' not in line:
                continue
            event = json.loads(line)
            about = event.get("objectRef") or {}
            if about.get("namespace") == namespace and event["verb"] not in ("list", "watch"):
                resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
                told[f"{event['verb']} {resource}"] += 1
        return told

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        code = self._process.wait(timeout=30)
        self._process = None
        return code


@contextmanager
def running(cluster: Cluster, folder: Path) -> Iterator[OperatorProcess]:
    """An operator for the time of a test."""
    operator = OperatorProcess(cluster, folder)
    operator.start()
    try:
        yield operator
    finally:
        operator.kill()


def writes(calls: Counter[str]) -> int:
    """How many of them change something."""
    return sum(count for call, count in calls.items() if call.split(" ")[0] not in _READS)


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports
