"""The served half of the thesis' tables: labelled tiles to both engines, one an upload, each answer judged."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atalaya_serving.benching.driving import Limits, drive
from atalaya_serving.benching.errors import InvalidPlan, NothingMeasured
from atalaya_serving.benching.finding import Wanted
from atalaya_serving.benching.inputs import from_tiles
from atalaya_serving.benching.load import open_callers
from atalaya_serving.benching.machine import usable_cores
from atalaya_serving.benching.processes import Launcher
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.records import Cell, Protocol, cores_of
from atalaya_serving.benching.targets import (
    ENGINES,
    OPENVINO,
    OwnPlan,
    Target,
    Variant,
    metric_values,
    model_folder,
    open_own,
    own_server,
)
from atalaya_serving.benching.thesis_records import Served
from atalaya_serving.benching.watching import Watch
from atalaya_spec.manifest import load_manifest, versions

_SUM, _COUNT = "atalaya_inference_seconds_sum", "atalaya_inference_seconds_count"
_UNLABELLED_THRESHOLD = 0.5


@dataclass(frozen=True)
class Seat:
    """A server of the comparison: one engine on so many cores."""

    engine: str
    cores: int
    target: Target


@dataclass(frozen=True)
class ServingPlan:
    """What is started, and how it is called."""

    repository: Path
    work: Path
    launcher: Launcher
    core_counts: tuple[int, ...]
    protocols: tuple[Protocol, ...]
    precision: str
    """OpenVINO's; TensorFlow computes as its graph says."""
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Uploads:
    """One measurement: so many images from so many callers, over within `most_seconds`."""

    images: int
    most_seconds: float


@dataclass(frozen=True)
class Labelled:
    """The tiles as the servers get them, with the right answers; `unseen` are those that the model did not learn."""

    requests: Mapping[tuple[str, Protocol], list[bytes]]
    labels: Any
    threshold: float
    unseen: frozenset[int]


def open_seats(plan: ServingPlan, model: str, stack: ExitStack, tell: Callable[[str], None]) -> list[Seat]:
    """Start both engines on each number of cores; the stack ends them."""
    wanted = Wanted(model, "", plan.protocols, plan.timeout_seconds)
    variants = [Variant(engine, plan.precision if engine == OPENVINO else "auto") for engine in ENGINES]
    own = OwnPlan(plan.repository, variants, plan.launcher, plan.work)
    found = []
    for variant in variants:
        for count in plan.core_counts:
            server = own_server(own, variant, model, tuple(usable_cores()[:count]))
            tell(f"starting {server.name} with {model}")
            found.append(Seat(variant.engine, count, open_own(server, wanted, own, stack)))
    return found


def labelled(seats: list[Seat], examples: Any, threshold: float, unseen: frozenset[int]) -> Labelled:
    """Every request as bytes, and all servers warm. Raises InvalidPlan where the tiles do not fit the model."""
    requests: dict[tuple[str, Protocol], list[bytes]] = {}
    for target in (seat.target for seat in seats):
        if len(target.inputs) != 1:
            raise InvalidPlan(f"model {target.model!r} has {len(target.inputs)} inputs; a model of tiles has one.")
        (spec,) = target.inputs
        tiles = from_tiles(spec, examples.tiles, target.model)
        for protocol, client in target.clients.items():
            requests[target.name, protocol] = [client.request({spec.name: (spec.datatype, tile)}) for tile in tiles]
            target.warm_up(protocol, 1)
    return Labelled(requests, examples.labels, threshold, unseen)


def threshold_of(repository: Path, model: str) -> float:
    """The decision threshold of the model's manifest; 0.5 where it has none."""
    folder = model_folder(repository, model, Variant(OPENVINO, "auto"))
    version = folder / str(versions(folder)[-1])
    if not (version / "manifest.yaml").is_file():
        return _UNLABELLED_THRESHOLD
    return load_manifest(version).output.threshold


def measure(seat: Seat, cell: Cell, number: int, uploads: Uploads, given: Labelled) -> Served:
    """One round of one cell. Raises NothingMeasured, InvalidPlan."""
    target, requests = seat.target, given.requests[cell.server, cell.protocol]
    answers: list[tuple[int, bytes]] = []
    offset = number * uploads.images

    def sender(call: Callable[[bytes], bytes]) -> Callable[[int], None]:
        def send(position: int) -> None:
            index = (offset + position) % len(requests)
            answers.append((index, call(requests[index])))

        return send

    seconds, count = _inference_totals(target)
    with open_callers(target, cell) as calls:
        watch = Watch(target.tree)
        driven = drive([sender(call) for call in calls], Limits(uploads.most_seconds, uploads.images))
        usage = watch.stop()
    if not driven.latencies:
        raise NothingMeasured(f"{target.name} answered nothing over {cell.protocol}: {driven.first_error}")
    seconds_after, count_after = _inference_totals(target)
    judged = [(index, _is_right(target, cell.protocol, answer, (given, index))) for index, answer in answers]
    unseen = [is_right for index, is_right in judged if index in given.unseen]
    right = sum(is_right for _, is_right in judged)
    return Served(
        model=target.model,
        engine=seat.engine,
        cores=seat.cores,
        protocol=cell.protocol,
        round=number,
        right=right,
        wrong=len(judged) - right,
        unseen=len(unseen),
        unseen_right=sum(unseen),
        errors=sum(driven.errors.values()),
        inference_seconds=seconds_after - seconds,
        inference_count=int(count_after - count),
        total=latency(driven.latencies),
        wall_seconds=driven.wall_seconds,
        noise=usage.noise,
    )


def _inference_totals(target: Target) -> tuple[float, float]:
    told = metric_values(target.metrics_address or "", target.model, {_SUM, _COUNT}) or {}
    return told.get(_SUM, 0.0), told.get(_COUNT, 0.0)


def _is_right(target: Target, protocol: Protocol, answer: bytes, truth: tuple[Labelled, int]) -> bool:
    values = np.ravel(target.clients[protocol].outputs(answer)[0])
    if values.size != 1:
        raise InvalidPlan(f"model {target.model!r} answers {values.size} values a tile; the thesis' tables need one.")
    given, index = truth
    return (float(values[0]) >= given.threshold) == bool(given.labels[index])


def describe(one: Served) -> str:
    """A measurement in a line, for progress."""
    marks = "".join(f" [{mark}]" for mark in one.noise.marks)
    where = f"{one.model}, {one.engine}, {one.protocol}, {cores_of(one.cores)}"
    return f"{where}: {one.right + one.wrong} images in {one.wall_seconds:.1f} s, {one.right} right{marks}"
