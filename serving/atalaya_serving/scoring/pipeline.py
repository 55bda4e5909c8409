"""Reading, inference and writing at once: readers cut tiles, the feeder fills batches, the writer keeps the answers.

Readers are threads with their own handles behind a bounded queue, so memory stays flat however large the scene; the
feeder is the calling thread; the model answers on its own threads; the writer commits what has come a few times a
second. Reading may begin before it is known which tiles are done; nothing is asked and nothing kept before. The first
error anywhere stops all of it, after the answers that came are kept.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atalaya_serving.scoring.grid import Chunk
from atalaya_serving.scoring.overview import OverviewBuilder
from atalaya_serving.scoring.predictors import Answer, Predictor, Slot
from atalaya_serving.scoring.tiles import ChunkTiles, ReadPlan, TileReader
from atalaya_serving.store.records import TileRows, TileState

_COMMIT_ROWS = 8192
_COMMIT_SECONDS = 0.25
_WAKE_SECONDS = 0.1
# Rectangles that lie ready, beside one for each reader: readers end a little before the model does, and the picture is
# written meanwhile.
_CUT_AHEAD = 4
_LITTLE = 1

Keep = Callable[[Sequence[TileRows]], None]


@dataclass(frozen=True)
class Journal:
    """What is known of this work already: the tiles [rows, cols] that are done, who keeps the rows of the others, and
    the folder that lacks the scene's picture (None: nothing to draw)."""

    done: npt.NDArray[np.bool_]
    keep: Keep
    picture: Path | None


@dataclass(frozen=True)
class Work:
    """What a run needs: the plan, the rectangles to read, the journal when it is open, who answers."""

    read: ReadPlan
    chunks: Sequence[Chunk]
    journal: Future[Journal]
    predictor: Predictor
    threshold: float
    readers: int


@dataclass(frozen=True)
class _Batch:
    """What a slot was started with; `read_seconds` is a tile's share of the reading."""

    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    read_seconds: float


class Pipeline:
    """One run over one scene; `run` returns when every tile has its row."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._pending = iter(work.chunks)
        self._pending_lock = threading.Lock()
        self._reading = work.readers
        self._hungry = threading.Event()
        self._all_taken = False
        self._overview = OverviewBuilder(work.read)
        self._cut: queue.Queue[ChunkTiles | None] = queue.Queue(work.readers + _CUT_AHEAD)
        self._refused: queue.SimpleQueue[TileRows] = queue.SimpleQueue()
        self._batch_tiles = 0
        self._started = 0
        self._fed = threading.Event()
        self._slot: Slot | None = None
        self._parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], float]] = []

    def run(self, tick: Callable[[], None]) -> None:
        """Do it all; `tick` is called in this thread several times a second. Raises the first error."""
        threads = [threading.Thread(target=self._guarded, args=(self._write,), name="writer")]
        threads += [
            threading.Thread(target=self._guarded, args=(partial(self._read, number > 0),), name=f"reader-{number}")
            for number in range(self._work.readers)
        ]
        try:
            for thread in threads:
                thread.start()
            self._feed(tick)
            self._fed.set()
            while threads[0].is_alive():
                threads[0].join(_WAKE_SECONDS)
                tick()
        finally:
            self._stop.set()
            for thread in threads:
                if thread.is_alive():  # ctrl-C may come before all have begun
                    thread.join()
        if self._error is not None:
            raise self._error

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: `run` raises it, or would wait forever
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._stop.set()

    # Readers

    def _read(self, helps: bool) -> None:
        with TileReader(self._work.read) as reader:
            while not self._stop.is_set():
                if helps and not self._hungry.wait(_WAKE_SECONDS):
                    continue
                with self._pending_lock:
                    chunk = next(self._pending, None)
                if chunk is None:
                    self._all_taken = True
                    self._hungry.set()
                    break
                wanted, is_drawn = self._wanted(chunk)
                # A picture needs every pixel: what a stopped run left is read again for it, but not asked again.
                if wanted.any() or is_drawn:
                    tiles = reader.read(chunk, wanted)
                    if is_drawn:
                        self._overview.add(tiles)
                    self._offer(tiles)
        self._offer(None)
        with self._pending_lock:
            self._reading -= 1
            is_last = self._reading == 0
        if is_last and not self._stop.is_set() and (folder := self._work.journal.result().picture):
            self._overview.write(folder)

    def _wanted(self, chunk: Chunk) -> tuple[npt.NDArray[np.bool_], bool]:
        """Which tiles of it are to be asked, and whether it is drawn: all and yes, while the journal is not open."""
        if not self._work.journal.done():
            return np.ones(chunk.shape, bool), True
        journal = self._work.journal.result()
        done = journal.done[chunk.row : chunk.row_end, chunk.col : chunk.col_end]
        return ~done, journal.picture is not None

    def _offer(self, tiles: ChunkTiles | None) -> None:
        while not self._stop.is_set():
            try:
                self._cut.put(tiles, timeout=_WAKE_SECONDS)
            except queue.Full:
                continue
            return

    # Feeder

    def _feed(self, tick: Callable[[], None]) -> None:
        journal = self._opened(tick)
        if journal is None:
            return
        for read in self._chunks(tick):
            tiles = read.without(journal.done)
            now = datetime.now(UTC)
            for reason, (row, col) in tiles.refused.items():
                self._refused.put(_refused(row, col, reason.value, now))
            start = 0
            while start < len(tiles.pixels):
                slot = self._free_slot(tick)
                if slot is None:
                    return
                start += self._fill(slot, tiles, start)
        if self._slot is not None and self._batch_tiles:
            self._start(self._slot)

    def _opened(self, tick: Callable[[], None]) -> Journal | None:
        """The journal, waited for. None when the work was stopped before."""
        while not self._stop.is_set():
            tick()
            try:
                return self._work.journal.result(_WAKE_SECONDS)
            except TimeoutError:
                continue
        return None

    def _chunks(self, tick: Callable[[], None]) -> Iterator[ChunkTiles]:
        readers = self._work.readers
        while readers and not self._stop.is_set():
            tick()
            self._call_for_help()
            try:
                tiles = self._cut.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                continue
            if tiles is None:
                readers -= 1
            else:
                yield tiles

    def _call_for_help(self) -> None:
        """Readers beside the first read only while little lies ready: more than is needed slows the model down."""
        if self._all_taken or self._cut.qsize() <= _LITTLE:
            self._hungry.set()
        else:
            self._hungry.clear()

    def _free_slot(self, tick: Callable[[], None]) -> Slot | None:
        while self._slot is None and not self._stop.is_set():
            try:
                self._slot = self._work.predictor.free.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                tick()
        return self._slot

    def _fill(self, slot: Slot, tiles: ChunkTiles, start: int) -> int:
        count = min(len(slot.tiles) - self._batch_tiles, len(tiles.pixels) - start)
        end = start + count
        slot.tiles[self._batch_tiles : self._batch_tiles + count] = tiles.pixels[start:end]
        self._parts.append((tiles.row[start:end], tiles.col[start:end], tiles.seconds))
        self._batch_tiles += count
        if self._batch_tiles == len(slot.tiles):
            self._start(slot)
        return count

    def _start(self, slot: Slot) -> None:
        rows, cols, seconds = zip(*self._parts, strict=True)
        read_seconds = sum(each * len(row) for each, row in zip(seconds, rows, strict=True)) / self._batch_tiles
        count, self._batch_tiles, self._slot, self._parts = self._batch_tiles, 0, None, []
        self._started += 1
        slot.start(count, _Batch(np.concatenate(rows), np.concatenate(cols), read_seconds))

    # Writer

    def _write(self) -> None:
        rows: list[TileRows] = []
        kept = time.monotonic()
        answered = 0
        while True:
            ended = self._fed.is_set() and answered == self._started
            stopped = self._stop.is_set() and not self._fed.is_set()
            answers = [] if ended or stopped else self._answers()
            answered += len(answers)
            rows += [self._rows(answer) for answer in answers if answer.error is None]
            error = next((answer.error for answer in answers if answer.error is not None), None)
            while not self._refused.empty():
                rows.append(self._refused.get())
            due = time.monotonic() - kept > _COMMIT_SECONDS or sum(map(len, rows)) >= _COMMIT_ROWS
            if rows and (due or ended or stopped or error):
                self._work.journal.result().keep(rows)
                rows, kept = [], time.monotonic()
            if error is not None:
                raise error
            if ended or stopped:
                return

    def _answers(self) -> list[Answer]:
        """Whatever has come, after a moment's wait."""
        source = self._work.predictor.answers
        try:
            found = [source.get(timeout=_WAKE_SECONDS)]
        except queue.Empty:
            return []
        while not source.empty():
            found.append(source.get())
        return found

    def _rows(self, answer: Answer) -> TileRows:
        batch: Any = answer.token
        each = answer.seconds / len(batch.row)
        damaged = answer.probability >= self._work.threshold
        return TileRows(
            row=batch.row,
            col=batch.col,
            state=np.where(damaged, TileState.DAMAGED, TileState.NOT_DAMAGED).astype(np.uint8),
            reason="",
            probability=answer.probability,
            inference_seconds=each,
            total_seconds=batch.read_seconds + each,
            created_at=datetime.now(UTC),
        )


def _refused(row: npt.NDArray[np.int32], col: npt.NDArray[np.int32], reason: str, now: datetime) -> TileRows:
    return TileRows(
        row=row,
        col=col,
        state=np.zeros(len(row), np.uint8),
        reason=reason,
        probability=np.full(len(row), np.nan),
        inference_seconds=0.0,
        total_seconds=0.0,
        created_at=now,
    )
