"""`atalaya bench thesis` as a function: fits, served inferences of both engines, and the paths; kept if stopped."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atalaya_serving.benching import thesis_records
from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.jobs import run_job
from atalaya_serving.benching.machine import about_machine, usable_cores
from atalaya_serving.benching.plans import interleaved
from atalaya_serving.benching.processes import Launcher
from atalaya_serving.benching.quantiles import Latency
from atalaya_serving.benching.recorded import read_recorded
from atalaya_serving.benching.records import Cell, Noise, Protocol
from atalaya_serving.benching.thesis_records import Fit, Served, ThesisReport
from atalaya_serving.benching.thesis_serving import (
    ServingPlan,
    Uploads,
    describe,
    labelled,
    measure,
    open_seats,
    threshold_of,
)

THESIS_MODEL = "thesis2020"
PARTS = ("training", "serving", "paths")
_SERVED_EPOCHS = 175
"""The thesis served its best fit."""
_PATH_ROUNDS = 3


@dataclass(frozen=True)
class ThesisRequest:
    """What was asked. `inferences` are for each model and engine, shared evenly by cores and protocols."""

    tiles: Path
    repository: Path
    work: Path
    launcher: Launcher
    models: tuple[str, ...] = (THESIS_MODEL, "haiti-damage")
    parts: tuple[str, ...] = PARTS
    epochs: tuple[int, ...] = (100, 175, 200)
    seed: int = 0
    inferences: int = 4000
    cores: tuple[int, ...] = ()
    precision: str = "f32"
    """OpenVINO's: by default TensorFlow's own, so that the ratio is one of engines."""
    protocols: tuple[Protocol, ...] = ("v2-grpc", "v2-rest", "tfs-grpc", "tfs-rest")
    concurrency: int = 8
    rounds: int = 4
    path_seconds: float = 2.0
    most_seconds: float = 120.0
    """Of one measurement: what hangs, or is far slower than thought, ends."""
    recorded: Path | None = None

    @property
    def core_counts(self) -> tuple[int, ...]:
        """How many cores the servers get: 1 and all, where nothing else was asked."""
        return self.cores or tuple(dict.fromkeys((1, len(usable_cores()))))

    @property
    def uploads(self) -> Uploads:
        """One measurement's share."""
        measurements = len(self.core_counts) * len(self.protocols) * self.rounds
        return Uploads(max(1, self.inferences // measurements), self.most_seconds)

    @property
    def fitted(self) -> Path:
        """The repository of what is fitted here."""
        return self.work / "models"

    def repository_of(self, model: str) -> Path:
        """Where the model lies."""
        return self.fitted if model == THESIS_MODEL else self.repository


@dataclass
class ThesisRun:
    """What has been measured so far; `report` may be asked at any time."""

    request: ThesisRequest
    fits: list[Fit] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    paths: list[thesis_records.Path] = field(default_factory=list)
    recorded: tuple[Any, ...] = ()
    unseen: frozenset[int] = frozenset()
    """The tiles that no fit learnt from, by index."""
    is_complete: bool = False

    @property
    def has_results(self) -> bool:
        """Whether a report would say anything."""
        return bool(self.fits or self.served or self.paths)

    def report(self) -> ThesisReport:
        """All that there is now."""
        asked = self.request
        plan = {
            "models": asked.models, "tiles": asked.tiles.name, "inferences": asked.inferences,
            "cores": asked.core_counts, "precision": asked.precision, "protocols": asked.protocols,
            "concurrency": asked.concurrency,
            "rounds": asked.rounds, "epochs": asked.epochs, "seed": asked.seed, "parts": asked.parts,
        }  # fmt: skip
        results = tuple(self.fits), tuple(self.served), tuple(self.paths)
        return ThesisReport(about_machine(), plan, *results, self.recorded, self.is_complete)

    def measure(self, tell: Callable[[str], None]) -> None:
        """Carry out the plan. Raises AtalayaError, or KeyboardInterrupt; what was measured stays."""
        asked = self.request
        check(asked)
        self.recorded = read_recorded(asked.recorded) if asked.recorded else ()
        examples = _examples(asked.tiles)
        if "training" in asked.parts:
            self._train(tell)
        if "serving" in asked.parts:
            for model in asked.models:
                self._serve(model, examples, tell)
        if "paths" in asked.parts:
            self._walk(tell)
        self.is_complete = True

    def _train(self, tell: Callable[[str], None]) -> None:
        asked = self.request
        arguments = {
            "tiles": str(asked.tiles.resolve()), "epochs": asked.epochs, "seed": asked.seed,
            "folder": str(asked.work / "fits"), "export_epochs": served_epochs(asked.epochs),
            "export_to": str(asked.fitted / THESIS_MODEL / "1"),
        }  # fmt: skip
        tell(f"fitting {THESIS_MODEL} for {', '.join(map(str, asked.epochs))} epochs, one after the other")
        for told in run_job("fits", arguments, asked.launcher, asked.work / "fits.log"):
            self.unseen = frozenset(told.pop("judged_tiles"))
            fit = Fit(**(told | {"noise": Noise(**told["noise"])}))
            self.fits.append(fit)
            tell(f"{fit.epochs} epochs: {fit.right} right of {fit.judged}, {fit.seconds:.1f} s, loss {fit.loss:.2f}")

    def _serve(self, model: str, examples: Any, tell: Callable[[str], None]) -> None:
        asked, repository = self.request, self.request.repository_of(model)
        plan = ServingPlan(repository, asked.work, asked.launcher, asked.core_counts, asked.protocols, asked.precision)
        with ExitStack() as stack:
            seats = open_seats(plan, model, stack, tell)
            unseen = self.unseen if model == THESIS_MODEL else frozenset()
            given = labelled(seats, examples, threshold_of(repository, model), unseen)
            cells = {
                Cell(seat.target.name, protocol, 1, asked.concurrency): seat
                for protocol in asked.protocols
                for seat in seats
            }
            for done, (number, cell) in enumerate(interleaved(list(cells), asked.rounds), start=1):
                self.served.append(measure(cells[cell], cell, number, asked.uploads, given))
                tell(f"{done}/{len(cells) * asked.rounds} {describe(self.served[-1])}")

    def _walk(self, tell: Callable[[str], None]) -> None:
        asked = self.request
        tell("timing every path into both engines, in one process")
        arguments = {"folder": str(asked.work / "paths"), "rounds": _PATH_ROUNDS, "seconds": asked.path_seconds}
        for told in run_job("paths", arguments, asked.launcher, asked.work / "paths.log"):
            times, noise = Latency(**told["latency"]), Noise(**told["noise"])
            self.paths.append(thesis_records.Path(told["path"], told["engine"], times, noise))


def check(asked: ThesisRequest) -> None:
    """Refuse before anything runs what cannot end well. Raises InvalidPlan."""
    there = len(usable_cores())
    if too_many := [count for count in asked.core_counts if count > there]:
        raise InvalidPlan(f"--cores asks for {too_many[0]}, this process may use {there}; ask for at most as many.")
    if THESIS_MODEL in asked.models and "serving" in asked.parts and "training" not in asked.parts:
        raise InvalidPlan(
            f"the model {THESIS_MODEL} is what the training table fits; leave out --without training, or name another"
            " model with --model."
        )
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidPlan("this system cannot hold a server to some cores; run the thesis' tables on Linux.")
    if missing := [name for name in ("tensorflow", "sklearn") if find_spec(name) is None]:
        raise InvalidPlan(f"the thesis' tables need {missing[0]}; install it: pip install 'atalaya[train]'.")


def served_epochs(epochs: Sequence[int]) -> int:
    """Which fit is served: the one that the thesis took, or the last."""
    return _SERVED_EPOCHS if _SERVED_EPOCHS in epochs else epochs[-1]


def _examples(tiles: Path) -> Any:
    from atalaya_serving.training.dataset import load_examples

    return load_examples(tiles)
