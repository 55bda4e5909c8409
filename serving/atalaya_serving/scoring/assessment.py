"""The story of an assessment: open the model, look at the scene, open the journal, run, close the journal.

The store is the journal. An assessment that was stopped, by whatever, is gone on with by the same request: rows that
are there stay, the others are made.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from atalaya_serving.scoring.overview import OverviewBuilder, has_overview, prepare
from atalaya_serving.scoring.pipeline import Pipeline, Work
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
        scene = scene_record(plan.read.scene, digest.result(), plan.read.grid.geometry.meridian)
    store.put_scene(scene)
    assessment = store.begin(assessment_record(request.scene, plan, model.manifest, scene))
    environment = store.put_environment(environment_of(model.predictor.engine))
    try:
        with ThreadPoolExecutor(1) as beside:
            overview = _run(_Run(request, plan, model, assessment, environment), store, progress)
            written = beside.submit(overview)
            told, probability = store.answers(assessment.id)
            count = count_tiles(probability, model.manifest)
            written.result()
    except (AtalayaError, KeyboardInterrupt) as error:
        _close_stopped(store, assessment, error)
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


@dataclass(frozen=True)
class _Run:
    request: AssessRequest
    plan: Plan
    model: OpenModel
    assessment: Assessment
    environment: int


def _run(run: _Run, store: Store, progress: Tell | None) -> Callable[[], None]:
    """Make every row; returns what is left to do beside the count: writing the scene's overview."""
    read, assessment = run.plan.read, run.assessment
    done = store.done(assessment)
    folder = run.request.scenes_folder and run.request.scenes_folder / assessment.scene_digest.removeprefix("sha256:")
    builder = None
    if folder is not None and not has_overview(folder):
        prepare(folder)
        builder = OverviewBuilder(read.grid, 1 if read.bands.mix else len(read.bands.indexes))
    teller = _Teller(progress, int(done.sum()), assessment.tiles_total)

    def keep(rows: Sequence[TileRows]) -> None:
        run.model.predictor.verify()
        store.add_tiles(assessment.id, run.environment, rows)
        teller.done += sum(map(len, rows))

    work = Work(
        read=read,
        chunks=list(chunks(read.grid, read.scene.block, len(read.bands.indexes))),
        done=done,
        predictor=run.model.predictor,
        keep=keep,
        threshold=run.model.manifest.output.threshold,
        readers=run.request.readers or default_readers(),
        overview=builder,
    )
    Pipeline(work).run(teller.tick)
    teller.tell()
    return (lambda: builder.write(folder)) if builder is not None and folder is not None else lambda: None


def default_readers() -> int:
    """One reader feeds two cores of inference; more cores need more."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


class _Teller:
    """Tells the progress a few times a second."""

    def __init__(self, tell: Tell | None, done: int, total: int) -> None:
        self._tell, self._before, self._total = tell, done, total
        self._start = self._told = time.monotonic()
        self.done = done

    def tick(self) -> None:
        if time.monotonic() - self._told >= _TICK_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        if self._tell is None:
            return
        rate = (self.done - self._before) / max(self._told - self._start, 1e-9)
        left = (self._total - self.done) / rate if rate else None
        self._tell(Progress(self.done, self._total, self._before, rate, left))


def _close_stopped(store: Store, assessment: Assessment, error: BaseException) -> None:
    told = str(error) or "stopped; the same command goes on where it was"
    try:
        store.end(assessment.id, "failed", told)
    except AtalayaError:
        return  # the first error is what the person needs; the journal is as safe as its last commit
