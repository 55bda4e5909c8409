"""`atalaya up` with the real server: it serves, says what it does not do, restarts, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.grpc
import yaml

from atalaya_serving.paths import shipped_repository
from atalaya_spec.inference_model import API_VERSION

READY_WITHIN_SECONDS = 120.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


@dataclass
class Up:
    """A running `atalaya up`."""

    process: "subprocess.Popen[str]"
    home: Path
    grpc_port: int
    rest_port: int
    dashboard_port: int
    out: Path
    errors: Path

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def server(self) -> psutil.Process:
        return next(child for child in self.children() if "atalaya_serving" in child.cmdline())

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.errors.read_text()
        return "ctrl-C" in self.out.read_text()

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.rest_port}{path}", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def up(home: Path, *arguments: str) -> Iterator[Up]:
    grpc_port, rest_port, dashboard_port = free_ports(3)
    ports = ["--port", str(grpc_port), "--rest-port", str(rest_port), "--dashboard-port", str(dashboard_port)]
    command = [sys.executable, "-m", "atalaya", "up", *ports, *arguments]
    out, errors = home.with_name("out.txt"), home.with_name("errors.txt")
    env = os.environ | {"ATALAYA_HOME": str(home)}
    with out.open("w") as to_out, errors.open("w") as to_errors:
        process = subprocess.Popen(command, env=env, stdout=to_out, stderr=to_errors, text=True)
        try:
            yield Up(process, home, grpc_port, rest_port, dashboard_port, out, errors)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=30)


def model_file(folder: Path, name: str = "town-damage", **spec: object) -> Path:
    whole = {"engine": "openvino", "model": {"uri": str(shipped_repository() / "haiti-damage")}} | spec
    file = folder / f"{name}.yaml"
    meta = {"apiVersion": API_VERSION, "kind": "InferenceModel", "metadata": {"name": name}}
    file.write_text(yaml.safe_dump(meta | {"spec": whole}))
    return file


def test_it_serves_files_without_a_cluster_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    file = model_file(tmp_path, replicas=2, batching={"maxSize": 8})
    with up(tmp_path / "home", "-f", str(file), "--no-dashboard") as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as client:
            assert client.is_model_ready("town-damage")
            assert not client.is_model_ready("haiti-damage")
        assert running.answers("/v2/health/ready")
        assert running.answers("/metrics")
        children = running.children()
        told = running.errors.read_text()
        assert "spec.replicas: 2 replicas need a cluster; one process serves here." in told
        assert "spec.batching" not in told
        config = json.loads((running.home / "run" / f"up-{running.process.pid}" / "models.json").read_text())
        (entry,) = config["model_config_list"]
        assert entry["config"]["batching"] == {"max_size": 8, "timeout_seconds": 0}
        assert f"127.0.0.1:{running.grpc_port}" in running.out.read_text()

        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=30) == 0
        assert children
        assert not any(child.is_running() for child in children)
        assert list((running.home / "run").iterdir()) == []


def test_it_starts_the_dashboard_beside_the_server_and_ends_both_on_sigterm(tmp_path: Path) -> None:
    with up(tmp_path / "home", "-f", str(model_file(tmp_path))) as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        page = httpx.get(f"http://127.0.0.1:{running.dashboard_port}/_stcore/health", trust_env=False)
        assert page.status_code == 200
        told = running.out.read_text()
        assert re.search(rf"^dashboard +http://127\.0\.0\.1:{running.dashboard_port}$", told, re.MULTILINE)
        children = running.children()
        assert len(children) >= 2
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=30) == 0
        assert not any(child.is_running() for child in children)


def test_a_crashed_server_is_started_again_and_serves(tmp_path: Path) -> None:
    with up(tmp_path / "home", "-f", str(model_file(tmp_path)), "--no-dashboard") as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        before = running.server()
        before.kill()
        until(lambda: "was ended by SIGKILL" in running.errors.read_text())
        assert re.search(r"Starting it again in 0\.5 s\.", running.errors.read_text())
        until(lambda: running.answers("/v2/models/town-damage/ready"))
        assert running.server().pid != before.pid


def test_a_killed_up_leaves_no_server_behind_and_the_next_cleans_up(tmp_path: Path) -> None:
    with up(tmp_path / "home", "-f", str(model_file(tmp_path)), "--no-dashboard") as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        children = running.children()
        running.process.kill()
        running.process.wait()
        until(lambda: not any(child.is_running() for child in children), 20)
        leftover = running.home / "run" / f"up-{running.process.pid}"
        assert leftover.is_dir()
    with up(tmp_path / "home", "-f", str(model_file(tmp_path)), "--no-dashboard") as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        assert not leftover.exists()


def test_a_model_that_cannot_be_loaded_fails_the_start_with_the_servers_own_words(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.xml").write_text("this is no model")
    file = model_file(tmp_path, "broken", model={"uri": "broken"})
    with up(tmp_path / "home", "-f", str(file), "--no-dashboard") as running:
        assert running.process.wait(timeout=READY_WITHIN_SECONDS) == 1
        told = running.errors.read_text().splitlines()[-1]
    assert told.startswith("atalaya up: error: no model can be served: ")
    assert "broken/1/model.xml is not a model" in told
    assert list((tmp_path / "home" / "run").iterdir()) == []


def test_a_broken_model_is_told_of_and_the_others_serve(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.xml").write_text("this is no model")
    files = [model_file(tmp_path, "broken", model={"uri": "broken"}), model_file(tmp_path)]
    with up(tmp_path / "home", *(part for file in files for part in ("-f", str(file))), "--no-dashboard") as running:
        until(running.is_ready, READY_WITHIN_SECONDS)
        assert running.answers("/v2/models/town-damage/ready")
        assert "broken 1 is not served: " in running.errors.read_text()
        assert re.search(r"broken 1 +failed; see above", running.out.read_text())


@pytest.mark.parametrize("flag", ["--port", "--rest-port", "--dashboard-port"])
def test_a_taken_port_is_refused_with_the_flag_that_changes_it(flag: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = refused(tmp_path, flag, str(port))
    assert (
        answer
        == f"atalaya up: error: port {port} on 127.0.0.1 is taken by another program; choose another with {flag}."
    )


def test_a_home_that_cannot_be_written_to_is_refused_with_the_variable_that_moves_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (["up", "--no-dashboard"], ["demo", "--once"]):
        env = os.environ | {"ATALAYA_HOME": str(tmp_path / "file" / "home")}
        ports = ["--port", str(free_ports(1)[0]), "--rest-port", str(free_ports(1)[0])]
        done = subprocess.run(
            [sys.executable, "-m", "atalaya", *command, *ports],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "cannot be written to (Not a directory); set ATALAYA_HOME" in done.stderr
        assert done.stderr.count("\n") == 1


def test_two_equal_ports_and_a_foreign_address_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "--port", "4567", "--rest-port", "4567").startswith(
        "atalaya up: error: --port and --rest-port are both 4567"
    )
    assert "write an address of this machine with --address" in refused(tmp_path, "--address", "192.0.2.1")


def test_every_problem_of_every_file_is_told_before_anything_starts(tmp_path: Path) -> None:
    files = [model_file(tmp_path, "a", engin="x"), model_file(tmp_path, "b", model={"uri": "s3://models/b"})]
    told = refused(tmp_path, *(part for file in files for part in ("-f", str(file))), code=1)
    assert "spec.engin: there is no such field; did you mean 'engine'?" in told
    assert "so s3:// cannot be served" in told


def refused(folder: Path, *arguments: str, code: int = 2) -> str:
    env = os.environ | {"ATALAYA_HOME": str(folder / "home")}
    ports = dict(zip(("--port", "--rest-port", "--dashboard-port"), map(str, free_ports(3)), strict=True))
    rest = [part for flag, port in ports.items() if flag not in arguments for part in (flag, port)]
    command = [sys.executable, "-m", "atalaya", "up", *rest, *arguments]
    answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout) == (code, "")
    return answer.stderr.strip()
