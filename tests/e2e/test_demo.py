"""`atalaya demo` as a stranger runs it: from nothing to a map that our server computed, and to its end."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from atalaya_serving.store import Store, TileState


def free_ports() -> list[str]:
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
    return ["--port", ports[0], "--rest-port", ports[1], "--dashboard-port", ports[2]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def once(home: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atalaya", "demo", "--once", "--no-browser", "--json", "--home", str(home)]
    return subprocess.run([*command, *free_ports()], capture_output=True, text=True, timeout=240, check=False)


def test_once_ends_when_the_map_is_made(once: "subprocess.CompletedProcess[str]", home: Path) -> None:
    assert once.returncode == 0, once.stderr
    result = json.loads(once.stdout)
    assert (result["assessed"] + sum(result["not_assessed"].values()), result["tiles"]) == (576, 576)
    assert result["not_assessed"]["nodata"] > 0
    with Store.open(f"sqlite:///{home / 'store.db'}") as store:
        (assessment,) = store.assessments()
        tiles = store.tiles(assessment.id)
    assert (assessment.id, assessment.state) == (result["assessment"], "complete")
    assert {TileState(state) for state in np.unique(tiles.state)} >= {TileState.NOT_ASSESSED, TileState.NOT_DAMAGED}
    digest = assessment.scene_digest.removeprefix("sha256:")
    assert (home / "scenes" / digest / "overview.png").is_file()
    truth = json.loads((home / "scenes" / digest / "truth.geojson").read_text())
    assert len(truth["features"]) == 576
    assert "assumes a scene like those the model was trained on" in result["caveat"]


def test_it_was_our_server_that_computed_it(once: "subprocess.CompletedProcess[str]", home: Path) -> None:
    with closing(sqlite3.connect(home / "store.db")) as connection:
        protocols = [row[0] for row in connection.execute("select distinct protocol from environments")]
    assert len(protocols) == 1
    assert "grpc" in protocols[0].lower()


def test_its_score_is_told_as_it_is_and_said_to_be_synthetic(once: "subprocess.CompletedProcess[str]") -> None:
    result = json.loads(once.stdout)
    assert result["synthetic"] is True
    assert result["scene"].startswith("synthetic-")
    assert result["score"]["tiles"] == result["assessed"]
    assert 0 <= result["score"]["accuracy"] <= 1
    assert 0 <= result["score"]["auroc"] <= 1


def test_it_serves_with_the_dashboard_until_ctrl_c_and_leaves_nothing_behind(
    once: "subprocess.CompletedProcess[str]", home: Path, tmp_path: Path
) -> None:
    ports = free_ports()
    command = [sys.executable, "-m", "atalaya", "demo", "--no-browser", "--home", str(home), *ports]
    out = tmp_path / "out.txt"
    with out.open("w") as to_out:
        env = os.environ | {"DISPLAY": ":0"}  # --no-browser holds even where there is a screen
        process = subprocess.Popen(command, stdout=to_out, stderr=subprocess.DEVNULL, env=env)
    try:
        deadline = time.monotonic() + 180
        while "ctrl-C ends all of it" not in out.read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = out.read_text()
        assert "SYNTHETIC: no real place, no real damage" in told
        assert "score on synthetic pixels, which the model never learned: accuracy" in told
        metrics = httpx.get(f"http://127.0.0.1:{ports[3]}/metrics", trust_env=False).text
        assert 'atalaya_inferences_total{model="haiti-damage"' in metrics
        assert httpx.get(f"http://127.0.0.1:{ports[5]}/_stcore/health", trust_env=False).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    for port in ports[1::2]:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0
    assert list((home / "run").iterdir()) == []


def test_an_interrupted_demo_made_no_map_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    ports = free_ports()
    command = [sys.executable, "-m", "atalaya", "demo", "--once", "--home", str(tmp_path / "home"), *ports]
    errors = tmp_path / "errors.txt"
    with errors.open("w") as to_errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=to_errors)
    deadline = time.monotonic() + 180
    while "starting the model server" not in errors.read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert list((tmp_path / "home" / "run").iterdir()) == []
