"""Starts the servers that the suite compares: ours in this process, a real Triton and a real MLServer as they are.

The peers live in environments of their own (`make peers`): their protobuf stubs and ours cannot share a
process.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from builders_serving import free_port, running
from conformance.differences import COLUMNS
from conformance.models import Taught, models_of, write_ours

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
MAX_MESSAGE_BYTES = 256 << 20
# Ours twice: inference over gRPC has a short way and an ordinary one (docs/decisions/0201).
SERVERS = ("atalaya", "atalaya-ordinary", *(kind for kind in COLUMNS if kind != "atalaya"))
_START_SECONDS = 90


@dataclass(frozen=True)
class Peer:
    """A running server."""

    kind: str
    """Its column in the table of differences."""
    grpc: str
    http: str

    @property
    def url(self) -> str:
        return f"http://{self.http}"


def is_there(kind: str) -> bool:
    """Whether a peer's environment is set up."""
    return kind == "atalaya" or (ROOT / ".venvs" / kind / ".ready").is_file()


@contextmanager
def started(kind: str, folder: Path, *, fast: bool = True) -> Iterator[Peer]:
    """One of them, with all models, below an empty folder."""
    if kind == "atalaya":
        write_ours(folder)
        with running(folder, fast=fast, max_message_bytes=MAX_MESSAGE_BYTES) as server:
            assert server.grpc is not None
            assert server.rest is not None
            yield Peer(kind, server.grpc.address, server.rest.address)
        return
    ports = free_port(), free_port()
    command, env = (_triton if kind == "triton" else _mlserver)(folder, *ports)
    peer = Peer(kind, *(f"127.0.0.1:{port}" for port in ports))
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(peer, process, log)
        yield peer
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(peer: Peer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not _is_ready(peer):
        told = log.read_text(errors="replace")[-3000:]
        assert process.poll() is None, f"{peer.kind} ended: {told}"
        assert time.monotonic() < until, f"{peer.kind} is not ready: {told}"
        time.sleep(0.1)


def _is_ready(peer: Peer) -> bool:
    paths = ["/v2/health/ready", *(f"/v2/models/{model.name}/ready" for model in models_of(peer.kind))]
    try:
        return all(httpx.get(peer.url + path, timeout=5, trust_env=False).status_code == 200 for path in paths)
    except httpx.TransportError:
        return False


def _environment(kind: str) -> tuple[Path, dict[str, str]]:
    """A peer's environment on the disk, and its variables: none of ours that would reach its Python."""
    venv = ROOT / ".venvs" / kind
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return venv, clean | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}


def _triton(folder: Path, grpc_port: int, http_port: int) -> tuple[Sequence[str | Path], dict[str, str]]:
    """tritonserver out of nvidia-pytriton's wheel, with its own Python backend."""
    venv, env = _environment("triton")
    (packages,) = venv.glob("lib/python3*/site-packages")
    home, models, backends = packages / "pytriton" / "tritonserver", folder / "models", folder / "backends"
    shutil.copytree(home / "backends", backends)
    stub = home / "python_backend_stubs" / packages.parent.name.removeprefix("python") / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    for model in models_of("triton"):
        version = models / model.name / str(model.version)
        version.mkdir(parents=True)
        shutil.copy(PEERS / "triton_model.py", version / "model.py")
        (models / model.name / "config.pbtxt").write_text(_triton_config(model))
    flags = {
        "model-repository": models, "backend-directory": backends, "model-control-mode": "explicit", "load-model": "*",
        "grpc-address": "127.0.0.1", "grpc-port": grpc_port, "http-address": "127.0.0.1", "http-port": http_port,
        "allow-metrics": "false", "exit-timeout-secs": 5, "backend-config": "python,shm-default-byte-size=1048576",
    }  # fmt: skip
    command = [home / "bin" / "tritonserver", *(f"--{name}={value}" for name, value in flags.items())]
    return command, env | {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}


def _triton_config(model: Taught) -> str:
    def tensors(kind: str, told: object) -> str:
        assert isinstance(told, dict)
        return "\n".join(
            f'{kind} {{ name: "{name}" data_type: TYPE_{datatype.replace("BYTES", "STRING")} dims: {list(shape)} }}'
            for name, (datatype, shape) in told.items()
        )

    given = f'name: "{model.name}"\nbackend: "python"\nmax_batch_size: 0\n'
    return f"{given}{tensors('input', model.inputs)}\n{tensors('output', model.outputs)}\n"


def _mlserver(folder: Path, grpc_port: int, http_port: int) -> tuple[Sequence[str | Path], dict[str, str]]:
    venv, env = _environment("mlserver")
    settings = {
        "host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port, "metrics_endpoint": None,
        "parallel_workers": 0, "debug": False, "grpc_max_message_length": MAX_MESSAGE_BYTES,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    for model in models_of("mlserver"):
        told = {
            "name": model.name,
            "implementation": "mlserver_model.Model",
            "platform": "python",
            "parameters": {"version": str(model.version)},
        }
        for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
            told[kind] = [
                {"name": name, "datatype": datatype, "shape": list(shape)}
                for name, (datatype, shape) in tensors.items()
            ]
        (folder / model.name).mkdir()
        (folder / model.name / "model-settings.json").write_text(json.dumps(told))
    return [venv / "bin" / "mlserver", "start", folder], env | {"PYTHONPATH": str(PEERS)}
