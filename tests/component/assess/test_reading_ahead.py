"""Reading begins before it is known what is done already: nothing is asked, kept or drawn twice for that."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from atalaya_serving.scoring.errors import SceneUnreadable
from atalaya_serving.scoring.grid import Chunk
from atalaya_serving.scoring.models import find_manifest
from atalaya_serving.scoring.pipeline import Journal, Pipeline, Work
from atalaya_serving.scoring.planning import plan_scene
from atalaya_serving.scoring.predictors import Answer
from atalaya_serving.scoring.tiles import TileReader
from rasters import steps, write_scene

ROWS, COLS = 10, 10


class Slot:
    """Answers at once with the tiles' brightness."""

    def __init__(self, owner: "Predictor") -> None:
        self.tiles, self._owner = np.zeros((4, 128, 128, 1), np.uint8), owner

    def start(self, count: int, token: object) -> None:
        self._owner.asked += count
        self._owner.answers.put(Answer(token, self.tiles[:count].mean(axis=(1, 2, 3)) / 255, 0.0))
        self._owner.free.put(self)


class Predictor:
    def __init__(self) -> None:
        self.asked = 0
        self.free: queue.Queue[Any] = queue.Queue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.free.put(Slot(self))


class Running:
    """A pipeline over a scene of `steps`, a row of tiles a rectangle, whose journal is opened by the test."""

    def __init__(self, bench, scene: Path, readers: int = 1) -> None:
        request = bench.request(scene)
        plan = plan_scene(request.scene, find_manifest(request.model))
        rectangles = [Chunk(row, row + 1, 0, COLS) for row in range(ROWS)]
        self.predictor, self.journal, self.kept = Predictor(), Future[Journal](), []
        work = Work(plan.read, rectangles, self.journal, self.predictor, 0.5, readers)  # type: ignore[arg-type]
        self._pipeline = Pipeline(work)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._pipeline.run(lambda: None)
        except BaseException as error:  # noqa: BLE001 - raised again in `end`
            self._error = error

    def open(self, done: np.ndarray, picture: Path | None = None) -> None:
        self.journal.set_result(Journal(done, self.kept.extend, picture))

    def give_up(self) -> None:
        """End what a failed test has left waiting."""
        if not self.journal.done():
            self.journal.set_exception(SceneUnreadable("the test is over."))
        self._thread.join(60)

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "s.tif", steps(ROWS, COLS))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> "queue.Queue[tuple[str, int]]":
    """Who has read which rectangle."""
    found: queue.Queue[tuple[str, int]] = queue.Queue()
    read = TileReader.read

    def told(self: TileReader, chunk: Chunk, wanted: np.ndarray | None = None) -> Any:
        tiles = read(self, chunk, wanted)
        found.put((threading.current_thread().name, chunk.row))
        return tiles

    monkeypatch.setattr(TileReader, "read", told)
    return found


@pytest.fixture
def run(bench) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def begin(scene: Path, readers: int = 1) -> Running:
            running = Running(bench, scene, readers)
            stack.callback(running.give_up)
            return running

        yield begin


def places(rows: list[Any]) -> list[tuple[int, int]]:
    return sorted((r, c) for each in rows for r, c in zip(each.row.tolist(), each.col.tolist(), strict=True))


def test_what_is_read_early_is_asked_only_when_the_journal_lacks_it(run, scene: Path, reads) -> None:
    running = run(scene)
    first, second = reads.get(timeout=30), reads.get(timeout=30)
    assert (first[1], second[1], running.predictor.asked) == (0, 1, 0)
    done = np.zeros((ROWS, COLS), bool)
    done[0], done[1, :3], done[9] = True, True, True
    running.open(done)
    running.end()
    assert places(running.kept) == list(zip(*map(list, np.nonzero(~done)), strict=True))
    assert running.predictor.asked == (~done).sum()


def test_refused_tiles_that_were_read_early_are_not_told_again(run, tmp_path: Path, reads) -> None:
    black = steps(ROWS, COLS)
    black[:128] = 0
    running = run(write_scene(tmp_path / "s.tif", black, nodata=0))
    reads.get(timeout=30)
    done = np.zeros((ROWS, COLS), bool)
    done[0, :4] = True
    running.open(done)
    running.end()
    refused = [rows for rows in running.kept if rows.reason]
    assert places(refused) == [(0, col) for col in range(4, COLS)]


def test_the_picture_has_what_was_read_before_it_was_asked_for(run, scene: Path, reads, tmp_path: Path) -> None:
    running = run(scene)
    reads.get(timeout=30)
    folder = tmp_path / "picture"
    folder.mkdir()
    running.open(np.ones((ROWS, COLS), bool), folder)
    running.end()
    assert running.predictor.asked == 0
    with rasterio.open(folder / "overview.png") as picture:
        grey, alpha = picture.read()
    # Nearest neighbour of a scene that a zone's meridian turns a little: edges may be empty, the middle may not.
    assert (alpha[40:-40, 40:-40] == 255).all()
    assert abs(int(grey[60, grey.shape[1] // 2]) - int(steps(ROWS, COLS)[64, COLS * 64])) < 25


def test_readers_beside_the_first_rest_while_enough_lies_ready(run, scene: Path, reads) -> None:
    """Nothing is taken before the journal is open: the first reads ahead as far as it may, the others not at all."""
    running = run(scene, readers=4)
    early = [reads.get(timeout=30) for _ in range(9)]
    with pytest.raises(queue.Empty):
        reads.get(timeout=0.5)
    assert {reader for reader, _ in early} == {"reader-0"}
    running.open(np.zeros((ROWS, COLS), bool))
    running.end()
    assert places(running.kept) == list(np.ndindex(ROWS, COLS))


def test_ctrl_c_while_readers_begin_leaves_no_thread_behind(
    bench, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Thread] = []

    class Interrupted(threading.Thread):
        def start(self) -> None:
            if self.name == "reader-1":
                raise KeyboardInterrupt
            super().start()
            begun.append(self)

    request = bench.request(scene)
    plan = plan_scene(request.scene, find_manifest(request.model))
    rectangles = [Chunk(row, row + 1, 0, COLS) for row in range(ROWS)]
    pipeline = Pipeline(Work(plan.read, rectangles, Future(), Predictor(), 0.5, 2))  # type: ignore[arg-type]
    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(lambda: None)
    are_left = [thread.name for thread in begun if thread.is_alive()]
    pipeline._stop.set()
    assert are_left == []
    assert len(begun) == 2


def test_a_journal_that_cannot_be_opened_ends_it_with_its_error(run, scene: Path) -> None:
    running = run(scene)
    running.journal.set_exception(SceneUnreadable("the scene went away; give it back."))
    with pytest.raises(SceneUnreadable, match="went away"):
        running.end()
    assert running.predictor.asked == 0
