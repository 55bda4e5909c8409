"""The two services of one machine, as programs for the supervisor: the model server and the dashboard.

Addresses, ports, their health, the environment they get, and the files they need while they run.
"""

import errno
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from atalaya.local_serving import ServedModel, server_config
from atalaya.supervise import ChildFailed, Program, Supervisor
from atalaya_serving.paths import Paths
from atalaya_spec.errors import UsageError
from atalaya_spec.problems import Problem

SERVER, DASHBOARD = "model server", "dashboard"
DRAIN_SECONDS = 30
GRACE_SECONDS = DRAIN_SECONDS + 5.0  # the server must end by itself: killed earlier, it would lose accepted calls
READY_WITHIN_SECONDS = 180.0


@dataclass(frozen=True)
class Addresses:
    """Where the services listen. `dashboard_port` is 0 without a dashboard."""

    host: str
    grpc_port: int
    rest_port: int
    dashboard_port: int

    @property
    def reach(self) -> str:
        """The host by which this machine itself reaches them."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (compared with, not bound to)
        return anywhere.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)

    @property
    def grpc(self) -> str:
        """host:port for gRPC clients."""
        return f"{self.reach}:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """The URL of the REST API, /metrics and health."""
        return f"http://{self.reach}:{self.rest_port}"

    @property
    def dashboard(self) -> str:
        """The URL of the pages."""
        return f"http://{self.reach}:{self.dashboard_port}"


def refuse_taken_ports(addresses: Addresses) -> None:
    """Raise UsageError, naming the flag that changes it, for a port that we could not listen on."""
    flags = {"--port": addresses.grpc_port, "--rest-port": addresses.rest_port}
    if addresses.dashboard_port:
        flags["--dashboard-port"] = addresses.dashboard_port
    for flag, port in flags.items():
        twin = next((other for other in flags if other != flag and flags[other] == port), None)
        if twin:
            raise UsageError(f"{flag} and {twin} are both {port}; give one of them another port.")
        _refuse_taken_port(addresses.host, port, flag)


def _refuse_taken_port(host: str, port: int, flag: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"port {port} on {host} is taken by another program; choose another with {flag}."
                ) from None
            if error.errno == errno.EACCES:
                raise UsageError(f"port {port} needs privileges; choose one above 1023 with {flag}.") from None
            raise UsageError(
                f"cannot listen on {host}: {error.strerror or error}; write an address of this machine with --address."
            ) from None


def made_folder(folder: Path) -> Path:
    """A folder of ours that can be written to. Raises UsageError that names the variable that moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to ({error.strerror}); set ATALAYA_HOME to a folder that can, or free space."
        ) from None
    return folder


@dataclass(frozen=True)
class RunFolder:
    """What one `up` writes for its children while it runs. A leftover of a killed one is removed by the next."""

    path: Path

    @classmethod
    def make(cls, home: Path) -> "RunFolder":
        """A folder of this process below the home."""
        root = made_folder(home / "run")
        for leftover in root.glob("up-*"):
            pid = leftover.name.removeprefix("up-")
            if pid.isdecimal() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
                shutil.rmtree(leftover, ignore_errors=True)
        path = root / f"up-{os.getpid()}"
        path.mkdir()
        return cls(path)

    def write_config(self, models: Iterable[ServedModel]) -> Path:
        """The server's config file."""
        file = self.path / "models.json"
        file.write_text(json.dumps(server_config(models), indent=2), encoding="utf-8")
        return file

    def link_repository(self, models: Iterable[ServedModel]) -> Path:
        """A model repository of links with just what is served, under the names that clients use."""
        root = self.path / "models"
        for model in models:
            (root / model.name).mkdir(parents=True)
            for version in model.versions:
                (root / model.name / str(version)).symlink_to(model.folder / str(version))
        return root

    def remove(self) -> None:
        """Remove the folder; what its links point to stays."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True)
class Services:
    """What one run serves, and where. `notes` are said on start."""

    models: tuple[ServedModel, ...]
    notes: tuple[Problem, ...]
    addresses: Addresses
    paths: Paths


class LocalRun:
    """The services of one `atalaya up`, from the first start to the end of the last. A context manager."""

    def __init__(self, services: Services, say: Callable[[str], None]) -> None:
        self.services, self.supervisor, self._say = services, Supervisor(say, grace_seconds=GRACE_SECONDS), say
        self._open = ExitStack()

    def __enter__(self) -> "LocalRun":
        self._folder = RunFolder.make(self.services.paths.home)
        self._open.callback(self._folder.remove)
        self.repository = self._folder.link_repository(self.services.models)
        self._open.enter_context(self.supervisor.signals_end_it())
        self._open.enter_context(self.supervisor)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def environment(self) -> dict[str, str]:
        """What every child of this run is told."""
        return os.environ | child_environment(self.repository, self.services.addresses, self.services.paths)

    def start_server(self) -> None:
        """Start the model server and wait until every model is loaded or failed.

        Raises ChildFailed when none is loaded; else what failed is said and the others serve.
        """
        config = self._folder.write_config(self.services.models)
        self.supervisor.start(server_program(config, self.services, self.environment))
        self.supervisor.wait_until_ready(SERVER, READY_WITHIN_SECONDS)
        loaded = loaded_versions(self.services)
        failures = {one: why for one, why in loaded.items() if why}
        for one, why in failures.items():
            self._say(f"{one} is not served: {why}")
        if len(failures) == len(loaded):
            raise ChildFailed(f"no model can be served: {next(iter(failures.values()))}")

    def start_dashboard(self) -> None:
        """Start the dashboard and wait until it answers."""
        self.supervisor.start(dashboard_program(self.services, self.environment))
        self.supervisor.wait_until_ready(DASHBOARD, READY_WITHIN_SECONDS)


def server_program(config: Path, services: Services, env: Mapping[str, str]) -> Program:
    """The model server: ready when each version it was told of is loaded, or failed for good."""
    addresses = services.addresses
    command = [sys.executable, "-m", "atalaya_serving", "--config_path", str(config)]
    command += ["--port", str(addresses.grpc_port), "--rest_port", str(addresses.rest_port)]
    command += ["--grpc_bind_address", addresses.host, "--rest_bind_address", addresses.host]
    command += ["--file_system_poll_wait_seconds", "0", "--drain_seconds", str(DRAIN_SECONDS)]

    def is_ready() -> bool:
        return len(loaded_versions(services)) == sum(len(model.versions) for model in services.models)

    return Program(SERVER, command, env, services.paths.home / "logs" / "server.log", is_ready)


def dashboard_program(services: Services, env: Mapping[str, str]) -> Program:
    """The dashboard, told by its environment where the server, its metrics, the store and the models are."""
    addresses = services.addresses
    command = [sys.executable, "-m", "atalaya_dashboard"]
    command += ["--port", str(addresses.dashboard_port), "--address", addresses.host]

    def is_ready() -> bool:
        return ask(addresses, addresses.dashboard_port, "GET", "/_stcore/health") is not None

    return Program(DASHBOARD, command, env, services.paths.home / "logs" / "dashboard.log", is_ready)


def child_environment(repository: Path, addresses: Addresses, paths: Paths) -> Mapping[str, str]:
    """The variables by which our parts find each other."""
    return {
        "ATALAYA_HOME": str(paths.home),
        "ATALAYA_SCENES": str(paths.scenes),
        "ATALAYA_STORE_URL": paths.store_url,
        "ATALAYA_MODEL_REPO": str(repository),
        "ATALAYA_ENDPOINT": addresses.grpc,
        "ATALAYA_METRICS_URLS": f"{addresses.rest}/metrics",
    }


def loaded_versions(services: Services) -> dict[str, str]:
    """Each version that is loaded or failed, as `name version`, with why it failed; empty while nothing answers."""
    body = ask(services.addresses, services.addresses.rest_port, "POST", "/v2/repository/index")
    settled = {}
    for line in json.loads(body) if body else ():
        if line.get("version") and line.get("state") in ("READY", "UNAVAILABLE"):
            why = "" if line["state"] == "READY" else line.get("reason") or "the server does not say why"
            settled[f"{line['name']} {line['version']}"] = why
    return settled


def ask(addresses: Addresses, port: int, method: str, path: str) -> bytes | None:
    """The body of an answer with status 200, else None. No proxy of the environment stands between."""
    connection = HTTPConnection(addresses.reach.strip("[]"), port, timeout=2)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        with suppress(OSError):
            connection.close()
