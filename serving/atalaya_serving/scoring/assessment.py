"""The story of an assessment: open the model, look at the scene, open the journal, run, close the journal.

The store is the journal. An assessment that was stopped, by whatever, is gone on with by the same request: rows that
are there stay, the others are made.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atalaya_serving.scoring.counts import Count, count_damaged
from atalaya_serving.scoring.digests import assessment_id, file_digest
from atalaya_serving.scoring.environment import machine
from atalaya_serving.scoring.errors import AreaMissesScene
from atalaya_serving.scoring.grid import chunks
from atalaya_serving.scoring.models import ModelChoice, OpenModel, find_manifest, open_model
from atalaya_serving.scoring.overview import has_overview, prepare
from atalaya_serving.scoring.pipeline import Journal, Pipeline, Work
from atalaya_serving.scoring.planning import Plan, SceneChoice, assessment_record, parameters, plan_scene, scene_record
from atalaya_serving.scoring.predictors import Engine
from atalaya_serving.store import Assessment, Environment, Store, TileRows
from atalaya_spec.errors import AtalayaError
from atalaya_spec.manifest import Manifest

_TICK_SECONDS = 0.1


@dataclass(frozen=True)
class AssessRequest:
    """A scene, a model and where the scene's overview goes (None: nowhere)."""

    scene: SceneChoice
    model: ModelChoice
    scenes_folder: Path | None = None
    readers: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is: tiles done of all, of which `resumed` were there before; tiles a second of this run alone, and
    seconds to go (None: not known yet)."""

    done: int
    total: int
    resumed: int
    tiles_per_second: float
    eta_seconds: float | None


@dataclass(frozen=True)
class AssessResult:
    """A finished assessment. `seconds` counts from the open model to the last row; `resumed` tiles were there."""

    assessment: Assessment
    count: Count
    not_assessed: dict[str, int]
    resumed: int
    load_seconds: float
    seconds: float

    @property
    def new_tiles(self) -> int:
        """Tiles that were left to this run."""
        return self.assessment.tiles_total - self.resumed

    @property
    def tiles_per_second(self) -> float:
        """Tiles of this run over its seconds."""
        return self.new_tiles / max(self.seconds, 1e-9)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the map is believed; kept with the assessment."""
        return self.assessment.warnings


Tell = Callable[[Progress], None]


def assess(request: AssessRequest, store: Store, progress: Tell | None = None) -> AssessResult:
    """Assess a scene, or go on where an equal request was stopped. Raises AtalayaError."""
    with open_model(request.model) as model:
        return assess_with(model, request, store, progress)


def assess_with(
    model: OpenModel, request: AssessRequest, store: Store, progress: Tell | None = None, plan: Plan | None = None
) -> AssessResult:
    """The same with a model that is open already, and a plan that is made already: for several scenes."""
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(file_digest, request.scene.path)
        plan = plan or plan_scene(request.scene, model.manifest)
        run = _Run(request, plan, model, store, _Teller(progress, plan.read.grid.tiles))
        try:
            run.fill(beside.submit(lambda: run.open(digest.result())))
            assessment = run.opened()
            told, probability = store.answers(assessment.id)
            count = count_tiles(probability, model.manifest)
        except (AtalayaError, KeyboardInterrupt) as error:
            run.close_stopped(error)
            raise
    store.end(assessment.id, "complete")
    if not count.n and request.scene.area is not None:
        raise AreaMissesScene(
            f"no tile of {request.scene.path} in {request.scene.area} could be assessed "
            f"({words(reasons(told))}); choose an area where the scene has pixels."
        )
    return AssessResult(
        assessment=store.assessment(assessment.id),
        count=count,
        not_assessed=reasons(told),
        resumed=assessment.tiles_done,
        load_seconds=model.load_seconds,
        seconds=time.perf_counter() - start,
    )


def find_assessment(request: AssessRequest, store: Store) -> Assessment | None:
    """What the store holds for a request, finished or not, without doing any of it."""
    manifest = find_manifest(request.model)
    digest = file_digest(request.scene.path)
    return store.find(assessment_id(digest, manifest.digest, parameters(request.scene, manifest)))


def count_tiles(probability: npt.NDArray[np.float64], manifest: Manifest) -> Count:
    """The count of damaged tiles with its 90% interval, calibration doubt included where the manifest tells it."""
    calibration = manifest.calibration
    pairs = (calibration.slopes, calibration.intercepts) if calibration and calibration.slopes else None
    return count_damaged(probability, pairs)


def reasons(reason: npt.NDArray[np.str_]) -> dict[str, int]:
    """How many tiles were not assessed, by reason."""
    return dict(Counter(reason[reason != ""].tolist()).most_common())


def words(not_assessed: dict[str, int]) -> str:
    """Reasons and their counts in one line."""
    return ", ".join(f"{number:,} {reason}" for reason, number in not_assessed.items())


def environment_of(engine: Engine) -> Environment:
    """The engine that answers and the machine that asks, as rows keep them."""
    told = machine()
    return Environment(
        engine=engine.name,
        engine_version=engine.version,
        precision=engine.precision,
        protocol=engine.protocol,
        processor=str(told["processor"]),
        physical_cores=int(told["physical_cores"]),
        logical_cores=int(told["logical_cores"]),
        memory_bytes=int(told["memory_bytes"]),
        os=str(told["os"]),
        os_version=str(told["os_version"]),
        container=bool(told["container"]),
        cloud=str(told["cloud"]),
    )


class _Run:
    """One assessment on its way. Its place in the store is opened beside the first reading."""

    def __init__(self, request: AssessRequest, plan: Plan, model: OpenModel, store: Store, teller: "_Teller") -> None:
        self._request, self._plan, self._model, self._store, self._teller = request, plan, model, store, teller
        self._assessment: Assessment | None = None

    def open(self, digest: str) -> Journal:
        """Give it its place in the store, or find the one that an equal run has made; and make sure of the folder for
        the scene's picture before the long work."""
        store, read = self._store, self._plan.read
        scene = scene_record(read.scene, digest, read.grid.geometry.meridian)
        store.put_scene(scene)
        record = assessment_record(self._request.scene, self._plan, self._model.manifest, scene)
        self._assessment = assessment = store.begin(record)
        environment = store.put_environment(environment_of(self._model.predictor.engine))
        done = store.done(assessment)
        self._teller.resume(int(done.sum()))

        def keep(rows: Sequence[TileRows]) -> None:
            self._model.predictor.verify()
            store.add_tiles(assessment.id, environment, rows)
            self._teller.done += sum(map(len, rows))

        return Journal(done, keep, self._picture(digest))

    def fill(self, journal: Future[Journal]) -> None:
        """Make every row."""
        read = self._plan.read
        work = Work(
            read=read,
            chunks=list(chunks(read.grid, read.scene.block, len(read.bands.indexes))),
            journal=journal,
            predictor=self._model.predictor,
            threshold=self._model.manifest.output.threshold,
            readers=self._request.readers or default_readers(),
        )
        Pipeline(work).run(self._teller.tick)
        self._teller.tell()

    def opened(self) -> Assessment:
        """The assessment, once it has its place."""
        assert self._assessment is not None  # `fill` ended well, so the journal is open
        return self._assessment

    def close_stopped(self, error: BaseException) -> None:
        """Say in the store why it was stopped."""
        told = str(error) or "stopped; the same command goes on where it was"
        if self._assessment is None:
            return
        try:
            self._store.end(self._assessment.id, "failed", told)
        except AtalayaError:
            return  # the first error is what the person needs; the journal is as safe as its last commit

    def _picture(self, digest: str) -> Path | None:
        if self._request.scenes_folder is None:
            return None
        folder = self._request.scenes_folder / digest.removeprefix("sha256:")
        if has_overview(folder):
            return None
        prepare(folder)
        return folder


def default_readers() -> int:
    """More than are busy: those beside the first read only when the model would wait."""
    return min(8, (os.cpu_count() or 1) + 1)


class _Teller:
    """Tells the progress a few times a second."""

    def __init__(self, tell: Tell | None, total: int) -> None:
        self._tell, self._before, self._total = tell, 0, total
        self._start = self._told = time.monotonic()
        self._is_known = False
        self.done = 0

    def resume(self, done: int) -> None:
        """So many were there before; until that is known there is nothing to tell."""
        self.done = self._before = done
        self._is_known = True

    def tick(self) -> None:
        if self._is_known and time.monotonic() - self._told >= _TICK_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        if self._tell is None:
            return
        rate = (self.done - self._before) / max(self._told - self._start, 1e-9)
        left = (self._total - self.done) / rate if rate else None
        self._tell(Progress(self.done, self._total, self._before, rate, left))
