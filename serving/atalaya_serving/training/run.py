"""A training run as a folder: fits of the folds, the fit to all tiles, calibration, report, curves.

run.json             what was asked for; --resume goes on only where this agrees
folds/<split>/       one fit a fold: weights, loss by epoch
final/               the fit to all tiles
out-of-fold.npz      logits [repeats, n], the fold that judged each tile, labels
calibration.json     slope and intercept inside the served graph, and their bootstrap
report.json          cross-validated scores
model.keras          the served model: uint8 tiles to a calibrated probability
loss.png, reliability.svg
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training import plots
from atalaya_serving.training.calibration import Platt, bootstrap_platt, cross_fitted, fit_platt
from atalaya_serving.training.dataset import Examples, touching_groups
from atalaya_serving.training.errors import InvalidRun, OutputExists
from atalaya_serving.training.fit import HISTORY_FILE, FitPlan, load_fitted
from atalaya_serving.training.metrics import Scores, score
from atalaya_serving.training.networks import Model
from atalaya_serving.training.recipe import FitTask, Split, out_of_fold, run_fits, splits

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
CALIBRATION_FILE = "calibration.json"
OUT_OF_FOLD_FILE = "out-of-fold.npz"
MODEL_FILE = "model.keras"
THRESHOLD = 0.5


@dataclass(frozen=True)
class RunPlan:
    """All that decides a run's numbers."""

    fit: FitPlan
    folds: int
    repeats: int
    seed: int
    tiles_digest: str
    source_name: str

    def as_dict(self) -> dict[str, Any]:
        """As kept in run.json."""
        return dict(json.loads(json.dumps(asdict(self))))


@dataclass(frozen=True)
class OutOfFold:
    """Logits [repeats, n], the fold that judged each [repeats, n], and the labels [n]."""

    logits: NDArray[np.float64]
    judged: NDArray[np.int64]
    labels: NDArray[np.uint8]

    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated [repeats, n], each without its own fold."""
        return cross_fitted(self.logits, self.labels, self.judged)

    def calibration(self) -> Platt:
        """The calibration to serve: from all out-of-fold logits."""
        return fit_platt(self.logits.ravel(), np.tile(self.labels, len(self.logits)))

    def scores(self) -> Scores:
        """Cross-validated figures of the calibrated probability."""
        return score(self.probabilities(), self.labels, threshold=THRESHOLD)


def open_run(folder: Path, plan: RunPlan, *, resume: bool, overwrite: bool) -> None:
    """Make `folder` ready for `plan`. Raises OutputExists or InvalidRun, with the flag that helps."""
    wanted = plan.as_dict()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if overwrite:
            _remove_run(folder)
        elif not resume:
            raise OutputExists(f"{folder} is there already; go on with --resume, or begin anew with --overwrite.")
        elif (begun := read_run(folder)) != wanted:
            differs = ", ".join(sorted(key for key in wanted if begun.get(key) != wanted[key]))
            raise InvalidRun(
                f"{folder} was begun with another {differs}; give the same arguments, or begin anew with --overwrite."
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(wanted, indent=1), encoding="utf-8")


def _remove_run(folder: Path) -> None:
    if not (folder / RUN_FILE).is_file():
        raise OutputExists(f"{folder} is not a training run, so --overwrite does not empty it; give another --out.")
    shutil.rmtree(folder)


def read_run(folder: Path) -> dict[str, Any]:
    """The plan in a run's folder. Raises InvalidRun."""
    try:
        return dict(json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InvalidRun(
            f"{folder} is not a training run: it has no readable {RUN_FILE}; see `atalaya train`."
        ) from error


def carry_out(folder: Path, plan: RunPlan, examples: Examples, jobs: int, on_epoch: Callable[[], None]) -> Scores:
    """Fit folds and final model, calibrate, write all that a run holds; gives the cross-validated scores."""
    dealt = splits(examples, plan.folds, plan.repeats, plan.seed)
    final = FitTask(plan.fit, examples, plan.seed, folder / "final")
    run_fits([final, *_fold_tasks(plan, examples, dealt, folder)], jobs, on_epoch)
    judged = np.zeros((plan.repeats, len(examples)), np.int64)
    for split in dealt:
        judged[split.repeat, split.judge] = split.fold
    logits = out_of_fold(plan.fit.network, examples, dealt, folder / "folds")
    found = OutOfFold(logits, judged, examples.labels)
    np.savez(folder / OUT_OF_FOLD_FILE, logits=logits, judged=judged, labels=examples.labels)
    scores = found.scores()
    _write_json(folder / CALIBRATION_FILE, calibration_facts(found, touching_groups(examples.tiles), plan.seed))
    _write_json(folder / REPORT_FILE, {"network": plan.fit.network, "scores": scores.as_dict()})
    _draw(folder, dealt, scores, plan.fit.network)
    _save_served(folder, plan.fit.network, found.calibration())
    return scores


def fit_count(plan: RunPlan) -> int:
    """How many fits a run makes."""
    return plan.folds * plan.repeats + 1


def calibration_facts(found: OutOfFold, groups: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Slope and intercept of the served calibration, and the bootstrap that a manifest carries."""
    calibration = found.calibration()
    slopes, intercepts = bootstrap_platt(
        found.logits * calibration.slope + calibration.intercept, found.labels, groups, seed
    )
    return {
        "slope": calibration.slope,
        "intercept": calibration.intercept,
        "bootstrap": {"slopes": slopes, "intercepts": intercepts},
    }


def load_out_of_fold(folder: Path) -> OutOfFold:
    """What a finished run kept of its folds. Raises InvalidRun when it is not finished."""
    try:
        with np.load(folder / OUT_OF_FOLD_FILE) as saved:
            return OutOfFold(saved["logits"], saved["judged"], saved["labels"])
    except OSError as error:
        raise InvalidRun(f"{folder} is not finished; finish it with `atalaya train … --resume`.") from error


def final_logits_model(folder: Path) -> Model:
    """The logit model that was fitted to all tiles."""
    return load_fitted(read_run(folder)["fit"]["network"], folder / "final")


def _fold_tasks(plan: RunPlan, examples: Examples, dealt: Sequence[Split], folder: Path) -> list[FitTask]:
    return [
        FitTask(
            plan.fit,
            examples.at(split.learn),
            plan.seed + 1000 * (split.repeat + 1) + split.fold,
            folder / "folds" / split.folder_name,
        )
        for split in dealt
    ]


def _draw(folder: Path, dealt: Sequence[Split], scores: Scores, network: str) -> None:
    fits = {split.folder_name: folder / "folds" / split.folder_name for split in dealt} | {"final": folder / "final"}
    histories = {name: json.loads((fit / HISTORY_FILE).read_text(encoding="utf-8")) for name, fit in fits.items()}
    plots.loss_curve(histories, folder / "loss.png")
    plots.reliability_diagram({network: scores.reliability}, folder / "reliability.svg")


def _save_served(folder: Path, network: str, calibration: Platt) -> None:
    from atalaya_serving.training.export import serving_model

    serving_model(load_fitted(network, folder / "final"), calibration).save(folder / MODEL_FILE)


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
