"""The very arguments that the operator writes start each server, and its own probes find the model: as processes here.

The originals' places are taken by the faces, which know each version's flags: one that is not known ends `ovms`, and
makes `tensorflow_model_server` print `unknown argument`.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders_operator import Case, PinnedVersion

MODELS = Path(__file__).parents[2] / "model-repo"
VERSION = (PinnedVersion(1),)
STARTUP_SECONDS = 120


@dataclass(frozen=True)
class Started:
    """A server's container as the operator wrote it, running here on ports of its own."""

    container: Mapping[str, Any]
    ports: Mapping[str, int]
    log: Path

    def status(self, probe: str) -> int:
        """What a kubelet is answered."""
        asked = self.container[probe]["httpGet"]
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[asked['port']]}{asked['path']}", timeout=10).status_code
        except httpx.TransportError:
            return 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def started(case: Case, folder: Path, model: str, environment: Mapping[str, str]) -> Iterator[Started]:
    """Only what a pod maps is replaced: the model's mount, the ConfigMap's mount, ports of the pod's own network."""
    (container,) = [one for one in case.revision.template["spec"]["containers"] if one["name"] == "server"]
    ports = {one["name"]: free_port() for one in container["ports"]}
    mapped = {"/models/haiti-damage": str(MODELS / model), "/etc/atalaya": str(folder)}
    mapped |= {f"port={one['containerPort']}": f"port={ports[one['name']]}" for one in container["ports"]}

    def here(text: str) -> str:
        for pod, local in mapped.items():
            text = text.replace(pod, local)
        return text.replace("$$", "$")

    for name, text in case.revision.config.items():
        (folder / name).write_text(here(text))
    log = folder / "log"
    command = [sys.executable, "-m", "atalaya_serving", *map(here, container["args"])]
    with (
        log.open("w") as output,
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output) as process,
    ):
        server = Started(container, ports, log)
        try:
            deadline = time.monotonic() + STARTUP_SECONDS
            while server.status("startupProbe") != 200:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()


BATCHING = {"batching": {"maxSize": 16, "timeout": "2ms"}}


@pytest.mark.parametrize(
    ("version", "more"),
    [("2025.0", {}), ("2026.2.1", {}), ("2026.3", BATCHING)],
    ids=["2025.0", "2026.2.1", "2026.3-batching"],
)
def test_openvino_model_server_starts_with_what_it_is_told(tmp_path: Path, version: str, more: dict[str, Any]) -> None:
    case = Case({"engineVersion": version, "store": "pvc", **more}, VERSION)
    with started(case, tmp_path, "haiti-damage", {"ATALAYA_FACE": f"ovms:{version}"}) as server:
        assert (server.status("readinessProbe"), server.status("livenessProbe")) == (200, 200)
        metrics = httpx.get(f"http://127.0.0.1:{server.ports['http']}{case.revision.metrics_path}").text
        assert 'ovms_current_requests{name="haiti-damage"' in metrics


@pytest.mark.parametrize("version", ["2.16.1", "2.20.0"])
def test_tensorflow_serving_starts_with_what_it_is_told(tmp_path: Path, version: str) -> None:
    case = Case({"engine": "tensorflow", "engineVersion": version, "store": "pvc", **BATCHING}, VERSION)
    face = {"ATALAYA_FACE": f"tensorflow_model_server:{version}", "ATALAYA_BACKEND": "openvino"}
    with started(case, tmp_path, "haiti-damage-tf", face) as server:
        assert server.status("readinessProbe") == 200
        assert "unknown argument" not in server.log.read_text()
        assert server.container["livenessProbe"]["grpc"] == {"port": 8500}
        with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        metrics = httpx.get(f"http://127.0.0.1:{server.ports['http']}{case.revision.metrics_path}")
        assert metrics.status_code == 200


def test_our_own_server_starts_with_what_it_is_told(tmp_path: Path) -> None:
    case = Case({"engine": "atalaya", "store": "pvc", **BATCHING}, VERSION)
    with started(case, tmp_path, "haiti-damage", {}) as server:
        assert (server.status("readinessProbe"), server.status("livenessProbe")) == (200, 200)
        metrics = httpx.get(f"http://127.0.0.1:{server.ports['http']}{case.revision.metrics_path}").text
        assert 'atalaya_requests_in_flight{model="haiti-damage"' in metrics
