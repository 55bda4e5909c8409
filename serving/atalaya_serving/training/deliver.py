"""`atalaya export` as a function: a training run to versions of a model repository, one model a format."""

import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from atalaya_serving.training import export, networks
from atalaya_serving.training.dataset import Examples, touching_groups
from atalaya_serving.training.errors import InvalidRun, OutputExists
from atalaya_serving.training.evaluate import model_file, probabilities
from atalaya_serving.training.fit import load_fitted
from atalaya_serving.training.golden import golden_tiles
from atalaya_serving.training.publish import Published, write_manifest
from atalaya_serving.training.quiet import import_tensorflow_quietly
from atalaya_serving.training.recipe import splits
from atalaya_serving.training.run import (
    THRESHOLD,
    OutOfFold,
    calibration_facts,
    final_logits_model,
    load_out_of_fold,
    read_run,
)
from atalaya_serving.training.speed import speed_ratio
from atalaya_spec.errors import UsageError

PRECISIONS = {"ir-fp16": "fp16", "ir-fp32": "fp32", "ir-int8": "int8", "saved-model": "fp32"}
SUFFIXES = {"ir-fp16": "", "ir-fp32": "-fp32", "ir-int8": "-int8", "saved-model": "-tf"}


@dataclass(frozen=True)
class DataNote:
    """What a person must know of the training data; `limits` and `scene` (a whole scene's score) are for the card."""

    name: str
    licence: str = "not stated"
    description: str = "Not described."
    purpose: str = "Gives the probability that a tile shows damage."
    scene: str = ""
    limits: tuple[str, ...] = (
        "It was trained on few tiles of one kind; judge it on your own with `atalaya evaluate`.",
    )


@dataclass(frozen=True)
class ExportRequest:
    """Which formats of which run go where. `tiles` are the run's own: int8 shows them to the quantiser."""

    run: Path
    examples: Examples
    formats: tuple[str, ...]
    repository: Path
    name: str
    version: int
    data: DataNote
    data_file: Path | None = None
    baseline: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Delivered:
    """One version that was written."""

    format: str
    folder: Path
    found: OutOfFold
    measured: dict[str, Any]


def checked_formats(told: str) -> tuple[str, ...]:
    """The formats in a comma-separated list. Raises UsageError."""
    formats = tuple(dict.fromkeys(name.strip() for name in told.split(",") if name.strip()))
    unknown = [name for name in formats if name not in PRECISIONS]
    if unknown or not formats:
        raise UsageError(f"--formats names {', '.join(unknown) or 'nothing'}; there are: {', '.join(PRECISIONS)}.")
    return formats


def read_data_note(file: Path | None, source: Path) -> DataNote:
    """The YAML `file` that describes the training data; without one, little more than the name of `source`."""
    if file is None:
        return DataNote(name=source.name)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        return DataNote(**{**raw, "limits": tuple(raw["limits"])} if "limits" in raw else raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        known = ", ".join(field.name for field in fields(DataNote))
        raise UsageError(f"{file} does not describe training data; it is YAML with: {known}.") from error


def deliver(request: ExportRequest) -> list[Delivered]:
    """Write every format. Raises InvalidRun or OutputExists before anything is written."""
    if request.version < 1:
        raise UsageError(f"--version is {request.version}; it must be at least 1.")
    run = read_run(request.run)
    if run["tiles_digest"] != request.examples.digest():
        raise InvalidRun(f"{request.run} was trained on other tiles ({run['source_name']}); give those.")
    found = load_out_of_fold(request.run)
    folders = {
        fmt: request.repository / (request.name + SUFFIXES[fmt]) / str(request.version) for fmt in request.formats
    }
    taken = [str(folder) for folder in folders.values() if folder.exists()]
    if taken and not request.overwrite:
        raise OutputExists(f"{', '.join(taken)} is there already; give another --version, or --overwrite.")
    import_tensorflow_quietly()
    logits = final_logits_model(request.run)
    graph = export.logit_graph(logits)
    delivered = []
    for fmt, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        own = quantised_out_of_fold(request, run) if fmt == "ir-int8" else found
        if fmt == "saved-model":
            export.save_saved_model(export.serving_model(logits, own.calibration()), folder)
        else:
            source = export.quantised(graph, request.examples.tiles) if fmt == "ir-int8" else graph
            export.save_ir(export.with_calibration(source, own.calibration()), folder, fp16=fmt == "ir-fp16")
        delivered.append(_publish(request, fmt, folder, own, found))
    return delivered


def _publish(request: ExportRequest, fmt: str, folder: Path, own: OutOfFold, fp32: OutOfFold) -> Delivered:
    network = read_run(request.run)["fit"]["network"]
    facts = calibration_facts(own, touching_groups(request.examples.tiles), seed=0)
    measured: dict[str, Any] = {
        "method": f"{own.logits.shape[0]} × {own.judged.max() + 1}-fold cross-validation, stratified, touching tiles "
        "in one fold, calibration without the judged fold; 95% intervals by bootstrap over tiles",
        "network": network,
        "crossValidated": own.scores().as_dict(),
    }
    if fmt == "ir-int8":
        measured["decisionsFlippedAgainstFp32"] = round(flipped_share(own, fp32), 4)
    if fmt != "saved-model":
        measured["speed"] = measure_speed(folder / "model.xml", request.examples.tiles if fmt == "ir-int8" else None)
    answers = probabilities(model_file(folder), golden_tiles())[:, None]
    published = Published(
        name=request.name + SUFFIXES[fmt],
        version=request.version,
        precision=PRECISIONS[fmt],
        threshold=THRESHOLD,
        calibration={
            "method": f"Platt scaling in the graph: sigmoid({facts['slope']:.4f} × logit + {facts['intercept']:.4f})",
            "data": f"out-of-fold logits of {len(own.labels)} tiles",
            "bootstrap": facts["bootstrap"],
        },
        training_data={
            "name": request.data.name,
            "licence": request.data.licence,
            "description": request.data.description,
        },
        measured=measured,
    )
    write_manifest(folder, published, answers)
    return Delivered(fmt, folder, own, measured)


def quantised_out_of_fold(request: ExportRequest, run: dict[str, Any]) -> OutOfFold:
    """Out-of-fold logits of the int8 model: every fold's network quantised with the tiles it learnt from."""
    import openvino as ov

    dealt = splits(request.examples, run["folds"], run["repeats"], run["seed"])
    found = load_out_of_fold(request.run)
    table = np.empty_like(found.logits)
    for split in dealt:
        model = load_fitted(run["fit"]["network"], request.run / "folds" / split.folder_name)
        learnt = request.examples.at(split.learn)
        int8 = export.quantised(export.logit_graph(model), learnt.tiles)
        compiled = ov.Core().compile_model(int8, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        table[split.repeat, split.judge] = compiled(request.examples.tiles[split.judge])[0][:, 0]
    return replace(found, logits=table)


def flipped_share(one: OutOfFold, other: OutOfFold) -> float:
    """The share of out-of-fold decisions in which two models differ, each at its own threshold."""
    return float(((one.probabilities() >= THRESHOLD) != (other.probabilities() >= THRESHOLD)).mean())


def measure_speed(file: Path, quantise_with: NDArray[np.uint8] | None) -> dict[str, Any]:
    """Against the thesis' network at the same precision, batch 1, interleaved, on this machine.

    An int8 model is compared with the thesis' network quantised alike, with the tiles `quantise_with`.
    """
    import openvino as ov

    baseline = export.logit_graph(networks.build("thesis2020"))
    if quantise_with is not None:
        baseline = export.quantised(baseline, quantise_with)
    model = ov.Core().read_model(file)
    return {precision: asdict(speed_ratio(model, baseline, precision)) for precision in ("f32", "bf16")}
