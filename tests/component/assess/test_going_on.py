"""A run that is stopped, by whatever, is gone on with by the same command and ends with the same rows."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from atalaya.assess_report import as_text, progress_teller
from atalaya_serving.scoring import assessment as module
from atalaya_serving.scoring.assessment import Progress
from atalaya_serving.scoring.tiles import TileReader
from atalaya_serving.store import Store, StoreFull
from databases import postgresql, wait_until
from rasters import brightness, steps, write_scene

ROWS, COLS = 20, 20


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """400 tiles of noise: every answer is its own."""
    noise = np.random.default_rng(0).integers(0, 256, (ROWS * 128, COLS * 128), dtype=np.uint8)
    return write_scene(tmp_path / "s.tif", noise)


def command(scene: Path, *options: str) -> list[str]:
    slow = ["--batch", "1", "--threads", "1", "--readers", "1"]
    return [sys.executable, "-m", "atalaya", "assess", str(scene), "--model", "brightness", *slow, *options]


def start(bench, scene: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(scene, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | bench.environment(),
    )


def rows(store: Store) -> list[tuple]:
    (assessment,) = store.assessments()
    table = store.tiles(assessment.id)
    return list(
        zip(table.row.tolist(), table.col.tolist(), table.state.tolist(), table.probability.tolist(), strict=True)
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def journal(request: pytest.FixtureRequest, slow_bench) -> Iterator[Any]:
    """The slow bench on each of the two databases."""
    if request.param == "sqlite":
        yield slow_bench
        return
    with postgresql() as url, Store.open(url) as store:
        slow_bench.store, slow_bench.store_url = store, url
        yield slow_bench


@pytest.mark.timeout(600)  # a dozen processes in turn
def test_killed_again_and_again_it_ends_with_the_same_rows(journal, scene: Path, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'whole.db'}") as whole:
        module.assess(journal.request(scene), whole)
        expected = rows(whole)
    assert len(expected) == ROWS * COLS
    kills, before = 0, -1
    for _ in range(40):
        process = start(journal, scene)
        # Killed at other points each time: at once, then when it came a commit further than the one before.
        wait_until(lambda: process.poll() is not None or done(journal.store) > before, 60)  # noqa: B023
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, error = process.communicate()
        assert "error" not in error
        if process.returncode == 0:
            break
        found = rows(journal.store) if journal.store.assessments() else []
        assert len(set(found)) == len(found) == done(journal.store) if found else True
        assert set(found) <= set(expected)
        before = len(found) + 60
    else:
        pytest.fail("it never ended")
    assert kills >= 3
    assert rows(journal.store) == expected
    assert journal.store.assessments()[0].state == "complete"


def test_one_of_two_runs_at_once_may_be_killed(journal, scene: Path, tmp_path: Path) -> None:
    """The other one ends with all rows, none of them doubled, whoever made them."""
    with Store.open(f"sqlite:///{tmp_path / 'whole.db'}") as whole:
        module.assess(journal.request(scene), whole)
        expected = rows(whole)
    first, second = start(journal, scene), start(journal, scene)
    wait_until(lambda: done(journal.store) > 0 or first.poll() is not None, 60)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, error = second.communicate()
    assert second.returncode == 0, error
    assert rows(journal.store) == expected
    (assessment,) = journal.store.assessments()
    assert (assessment.state, assessment.tiles_done) == ("complete", ROWS * COLS)


def done(store: Store) -> int:
    found = store.assessments()
    return found[0].tiles_done if found else 0


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(slow_bench, scene: Path) -> None:
    process = start(slow_bench, scene)
    wait_until(lambda: done(slow_bench.store) > 0 or process.poll() is not None, 60)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "stopped; the rows so far are kept, and the same command goes on from there" in error
    assert "Traceback" not in error
    stopped = slow_bench.store.assessments()[0]
    assert stopped.state == "failed"
    assert 0 < stopped.tiles_done < ROWS * COLS
    result = slow_bench.assess(scene)
    assert result.resumed == stopped.tiles_done
    assert (result.assessment.state, result.assessment.tiles_done) == ("complete", ROWS * COLS)
    assert result.assessment.message == ""


def test_a_resumed_run_says_where_it_goes_on_and_counts_only_its_own_tiles(bench, scene: Path) -> None:
    bench.assess(scene)
    assert "nothing was left to do: all 400 tiles were there before" in as_text(bench.assess(scene))
    with bench.store._engine.begin() as connection:
        connection.exec_driver_sql('DELETE FROM tiles WHERE "row" > 14')
        connection.exec_driver_sql("UPDATE assessments SET tiles_done = 300")
    told: list[Progress] = []
    result = module.assess(bench.request(scene), bench.store, told.append)
    assert (result.resumed, result.new_tiles) == (300, 100)
    assert {progress.resumed for progress in told} == {300}
    assert (told[-1].done, told[-1].total) == (400, 400)
    assert told[-1].tiles_per_second < 100 / 0.001
    assert "  resumed at 300, 100 tiles were left: " in as_text(result)


def test_the_bar_of_a_resumed_run_leaves_out_what_was_there(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2)
    with ExitStack() as stack:
        tell = progress_teller("auto", "s.tif", stack)
        tell(Progress(300, 400, 300, 0.0, None))
        tell(Progress(400, 400, 300, 10.0, 0.0))
    lines = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert lines[0].startswith("s.tif, resumed at 300:  75%|")
    assert "300/400 [00:00<?, ? tiles/s]" in lines[0]
    assert lines[-1].startswith("s.tif, resumed at 300: 100%|")


def test_a_finished_assessment_is_not_done_again(bench, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.assess(scene)
    again = bench.assess(scene)
    assert again.resumed == ROWS * COLS
    assert again.count == first.count
    assert again.assessment.created_at == first.assessment.created_at


def test_an_overview_that_a_stopped_run_left_out_is_made_later(bench, scene: Path) -> None:
    result = bench.assess(scene)
    folder = bench.scenes / result.assessment.scene_digest.removeprefix("sha256:")
    picture = (folder / "overview.png").read_bytes()
    (folder / "overview.png").unlink()
    assert bench.assess(scene).resumed == ROWS * COLS
    assert (folder / "overview.png").read_bytes() == picture


def test_a_renamed_scene_goes_on_where_it_was(bench, scene: Path) -> None:
    bench.assess(scene)
    moved = scene.rename(scene.with_name("moved.tif"))
    assert bench.assess(moved).resumed == ROWS * COLS
    assert bench.store.scenes()[0].path == str(moved)


def test_two_runs_of_the_same_at_once_double_no_row(journal, scene: Path) -> None:
    runs = [start(journal, scene, "--json") for _ in range(2)]
    counts = []
    for process in runs:
        out, error = process.communicate()
        assert process.returncode == 0, error
        counts.append(json.loads(out)["damaged"])
    assert counts[0] == counts[1]
    (assessment,) = journal.store.assessments()
    assert assessment.tiles_done == len(journal.store.tiles(assessment.id)) == ROWS * COLS
    assert (assessment.state, assessment.message) == ("complete", "")


class FullStore:
    """A store whose disk fills after some rows; the real thing is tested with the store."""

    def __init__(self, store: Store, room: int) -> None:
        self._store, self._room = store, room

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def add_tiles(self, assessment_id, environment, batches):
        self._room -= sum(map(len, batches))
        if self._room < 0:
            raise StoreFull("no room")
        return self._store.add_tiles(assessment_id, environment, batches)


def test_a_full_store_ends_the_run_and_it_can_go_on(bench, scene: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreFull):
        module.assess(bench.request(scene), FullStore(bench.store, 0))
    stopped = bench.store.assessments()[0]
    assert (stopped.state, stopped.message) == ("failed", "no room")
    wait_until(lambda: set(threading.enumerate()) <= before, 10)
    assert bench.assess(scene).assessment.state == "complete"


@pytest.mark.timeout(60)
def test_an_error_that_nobody_foresaw_ends_the_run_and_it_can_go_on(bench, scene: Path, monkeypatch) -> None:
    """In a reader's thread, whose end nobody would see otherwise: the run would wait for it for ever."""
    with monkeypatch.context() as broken:
        broken.setattr(TileReader, "read", lambda *_: {}["unforeseen"])
        with pytest.raises(KeyError, match="unforeseen"):
            bench.assess(scene)
    assert bench.assess(scene).assessment.state == "complete"


def test_postgresql_keeps_the_same_rows(bench, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "small.tif", steps())
    bench.assess(scene)
    expected = rows(bench.store)
    with postgresql() as url, Store.open(url) as store:
        module.assess(bench.request(scene), store)
        assert rows(store) == expected
        with store._engine.connect() as connection:
            query = sa.text("SELECT count(*), min(probability), max(col) FROM predictions WHERE engine = 'openvino'")
            count, least, last = connection.execute(query).one()
    assert (count, last) == (20, 4)
    assert least * 255 == pytest.approx(brightness(0, 0))
