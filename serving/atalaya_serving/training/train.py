"""`atalaya train` as a function: checks the request, carries out the run, shows progress."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atalaya_serving.training.dataset import load_examples
from atalaya_serving.training.metrics import Scores
from atalaya_serving.training.networks import NETWORKS
from atalaya_serving.training.quiet import import_tensorflow_quietly
from atalaya_serving.training.recipe import PLANS
from atalaya_serving.training.run import RunPlan, carry_out, fit_count, open_run
from atalaya_spec.errors import UsageError


@dataclass(frozen=True)
class TrainRequest:
    """What `atalaya train` was asked. `epochs` None: as the recipe says; `jobs` None: one a core."""

    source: Path
    out: Path
    network: str
    seed: int = 0
    epochs: int | None = None
    folds: int = 5
    repeats: int = 2
    jobs: int | None = None
    resume: bool = False
    overwrite: bool = False


def train(request: TrainRequest) -> Scores:
    """Carry out the run in `request.out`; gives its cross-validated scores."""
    _check(request)
    examples = load_examples(request.source)
    recipe = PLANS[request.network]
    plan = RunPlan(
        fit=recipe.with_epochs(request.epochs or recipe.epochs),
        folds=request.folds,
        repeats=request.repeats,
        seed=request.seed,
        tiles_digest=examples.digest(),
        source_name=request.source.name,
    )
    open_run(request.out, plan, resume=request.resume, overwrite=request.overwrite)
    import_tensorflow_quietly()
    from tqdm import tqdm

    jobs = request.jobs or len(os.sched_getaffinity(0))
    with tqdm(total=fit_count(plan) * plan.fit.epochs_in_all, unit="epoch", desc=request.network, disable=None) as bar:
        return carry_out(request.out, plan, examples, jobs, lambda: _tick(bar))


def _tick(bar: Any) -> None:
    bar.update()


def _check(request: TrainRequest) -> None:
    if request.network not in NETWORKS:
        raise UsageError(f"there is no network {request.network!r}; there are: {', '.join(NETWORKS)}.")
    for flag, value in (("--epochs", request.epochs), ("--repeats", request.repeats), ("--jobs", request.jobs)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} is {value}; it must be at least 1.")
    if request.folds < 2:
        raise UsageError(f"--folds is {request.folds}; it must be at least 2.")
    if request.seed < 0:
        raise UsageError(f"--seed is {request.seed}; it must not be negative.")
