"""The bridge as a program: what it needs, how it starts and ends, and that its docs name all it has."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atalaya_serving.bridge.errors import REFUSALS
from atalaya_serving.bridge.metrics import BridgeCollector
from atalaya_serving.bridge.settings import _flags
from atalaya_serving.errors import CODES
from atalaya_serving.server import Server
from builders_bridge import bridging
from builders_serving import FakeEngine, fake_version, free_port, running

DOCS = (Path(__file__).parents[3] / "docs" / "bridge.md").read_text()
BRIDGE_AND_CALL = """
import sys, httpx
from atalaya_serving.bridge.server import Bridge
from atalaya_serving.bridge.settings import parse_settings
upstream, *ports = sys.argv[1:]
there = Bridge(parse_settings(["--from", "tfs", "--upstream", upstream, "--port", ports[0], "--rest_port", "0"]))
first = f"127.0.0.1:{ports[0]}"
back = Bridge(parse_settings(["--from", "v2", "--upstream", first, "--port", "0", "--rest_port", ports[1]]))
there.start(), back.start()
body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
answer = httpx.post(f"http://127.0.0.1:{ports[1]}/v2/models/m/infer", json=body)
assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4], answer.text
back.stop(), there.stop()
heavy = {"tensorflow", "tensorflow_serving", "keras", "openvino"}
print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    fake_version(root, "m", 1)
    with running(root, FakeEngine()) as server:
        yield server


def test_neither_tensorflow_nor_openvino_is_loaded_and_bridges_can_stand_in_a_row(behind: Server) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BRIDGE_AND_CALL, behind.grpc.address, str(free_port()), str(free_port())],
        capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1] == "[]"


def test_the_program_starts_serves_and_ends_in_order(behind: Server) -> None:
    port = free_port()
    arguments = ["--from", "tfs", "--to", "v2", "--upstream", behind.grpc.address, "--port", str(port)]
    program = subprocess.Popen(
        [sys.executable, "-m", "atalaya_serving", "bridge", *arguments, "--rest_port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert any(told.status == health_pb2.HealthCheckResponse.SERVING for told in health)
    program.send_signal(signal.SIGTERM)
    told, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "upstream ready" in told
    assert "stopped" in told


def test_wrong_use_is_told_in_one_line_with_exit_code_2() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "atalaya_serving", "bridge", "--from", "tfs"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "--upstream" in ran.stderr


def test_every_flag_is_documented() -> None:
    flags = {option for action in _flags()._actions for option in action.option_strings} - {"-h", "--help"}
    assert {flag for flag in flags if f"`{flag}`" not in DOCS} == set()
    assert set(re.findall(r"^\| .*?`(--[a-z_]+)`", DOCS, flags=re.MULTILINE)) <= flags


def test_every_metric_is_documented(behind: Server) -> None:
    with bridging(behind.grpc.address, "v2") as bridge:
        names = {family.name for family in BridgeCollector(bridge.dataplane, {}).collect()}
    documented = set(re.findall(r"`(atalaya_bridge_[a-z_]+)`", DOCS))
    assert {name.removesuffix("_total") for name in documented} == names


def test_every_refusal_that_changes_its_code_is_documented() -> None:
    changed = {code.name for code, kind in REFUSALS.items() if CODES[kind].grpc != code}
    assert {name for name in changed if f"`{name}`" not in DOCS} == set()
