"""Over gRPC: the same rows as in this process, and an end when the server changes its model midway."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atalaya_serving.client import RemoteModel
from atalaya_serving.errors import ServedVersionChanged, ServerUnreachable, ServingError
from atalaya_spec.errors import UsageError
from brightness_model import write_brightness_model
from databases import free_port, wait_until
from rasters import steps, write_scene


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)


class Server:
    """Our server on one model, in a process of its own."""

    def __init__(self, repository: Path, log: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "atalaya_serving", "--port", str(self.port), "--rest_port", "0"]
        self._command += ["--model_name", "brightness", "--model_path", str(repository / "brightness")]
        self._command += ["--file_system_poll_wait_seconds", "1"]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._answers, 90)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            RemoteModel(self.address, "brightness", connect_timeout_seconds=0.5).close()
        except ServingError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(bench, tmp_path: Path) -> Iterator[Server]:
    """It serves a copy, so that a test may change what is served."""
    shutil.copytree(bench.repository, tmp_path / "served")
    running = Server(tmp_path / "served", tmp_path / "server.log")
    yield running
    running.stop()


def test_an_endpoint_gives_the_same_rows(bench, server: Server, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(900))
    local = bench.tiles(scene)
    with bench.store._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM tiles")
    remote = bench.tiles(scene, endpoint=server.address)
    np.testing.assert_array_equal(remote.row, local.row)
    np.testing.assert_array_equal(remote.state, local.state)
    np.testing.assert_allclose(remote.probability, local.probability, atol=1e-6)
    (environment,) = {bench.store.environments()[key] for key in set(remote.environment.tolist())}
    assert (environment.engine, environment.protocol) == ("kserve-v2", "grpc")


def test_a_run_may_end_on_another_engine_than_it_began(bench, server: Server, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", steps())
    first = bench.assess(scene)
    with bench.store._engine.begin() as connection:
        connection.exec_driver_sql('DELETE FROM tiles WHERE "row" > 0')
    again = bench.assess(scene, endpoint=server.address)
    assert again.assessment.id == first.assessment.id
    assert len(set(bench.store.tiles(first.assessment.id).environment.tolist())) == 2


def test_nobody_at_the_endpoint_is_said(bench, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnreachable, match=f"no KServe v2 server answers at {address}"):
        bench.assess(write_scene(tmp_path / "s.tif", steps()), endpoint=address)


def test_a_server_of_other_files_needs_its_manifest(bench, server: Server, tmp_path: Path) -> None:
    shutil.rmtree(bench.version)
    write_brightness_model(bench.repository, factor=0.5)
    scene = write_scene(tmp_path / "s.tif", steps())
    with pytest.raises(UsageError, match=r"serves other files of 'brightness' version 1 .*; give --manifest"):
        bench.assess(scene, endpoint=server.address)
    with pytest.raises(UsageError, match="give the manifest of what is served"):
        bench.assess(scene, endpoint=server.address, manifest=bench.version / "manifest.yaml")
    served = tmp_path / "served/brightness/1/manifest.yaml"
    assert bench.assess(scene, endpoint=server.address, manifest=served).count.n == 20


def test_a_server_that_restarts_is_waited_for(slow_bench, server: Server, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(40 * 128))
    restarted = threading.Event()

    def restart(progress) -> None:
        if progress.done and not restarted.is_set():
            restarted.set()
            server.stop()
            server.start()

    from atalaya_serving.scoring.assessment import assess

    result = assess(slow_bench.request(scene, endpoint=server.address, batch=4), slow_bench.store, restart)
    assert restarted.is_set()
    assert result.assessment.tiles_done == 1600


@pytest.mark.parametrize("version", [pytest.param(2, id="a new number"), pytest.param(1, id="new files, old number")])
def test_another_version_midway_ends_the_run(slow_bench, server: Server, tmp_path: Path, version: int) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(40 * 128))
    swapped = threading.Event()

    def swap(progress) -> None:
        if progress.done and not swapped.is_set():
            swapped.set()
            shutil.rmtree(tmp_path / "served/brightness/1")
            write_brightness_model(tmp_path / "served", version=version, factor=0.5)
            server.stop()
            server.start()

    from atalaya_serving.scoring.assessment import assess

    with pytest.raises(ServedVersionChanged):
        assess(slow_bench.request(scene, endpoint=server.address, batch=4), slow_bench.store, swap)
    stopped = slow_bench.store.assessments()[0]
    assert stopped.state == "failed"
    assert stopped.tiles_done < 1600
