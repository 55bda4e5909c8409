"""Samples to rows: medians over the rounds, quantiles over every latency, and why a row is not to be trusted. Pure."""

import statistics
from collections.abc import Mapping, Sequence

from atalaya_serving.benching.machine import worst
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.records import Cell, Row, Sample


def rows(samples: Sequence[Sample], latencies: Mapping[Cell, Sequence[float]]) -> tuple[Row, ...]:
    """One row a cell, in the order of the first round's plan."""
    by_cell: dict[Cell, list[Sample]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell, []).append(sample)
    return tuple(_row(cell, own, latencies.get(cell, ())) for cell, own in by_cell.items())


def _row(cell: Cell, own: Sequence[Sample], latencies: Sequence[float]) -> Row:
    speeds = [one.images_per_second for one in own]
    noise = worst(one.noise for one in own)
    errors = sum(sum(one.errors.values()) for one in own)
    unsent = sum(one.unsent for one in own)
    marks = [*noise.marks]
    marks += [f"{errors} errors"] if errors else []
    marks += ["overloaded"] if unsent or any(not one.requests for one in own) else []
    return Row(
        cell=cell,
        rounds=len(own),
        images_per_second=statistics.median(speeds),
        images_per_second_range=(min(speeds), max(speeds)),
        latency=latency(latencies),
        server_cpu_us_per_image=_cpu_us(own),
        memory_mib=max((one.memory_mib for one in own if one.memory_mib is not None), default=None),
        errors=errors,
        unsent=unsent,
        noise=noise,
        marks=tuple(marks),
    )


def _cpu_us(own: Sequence[Sample]) -> float | None:
    """The median of the rounds of the server's CPU time an image, without rounds in which nothing was answered."""
    known = [
        1e6 * one.server_cpu_seconds / (one.requests * one.cell.batch)
        for one in own
        if one.server_cpu_seconds is not None and one.requests
    ]
    return statistics.median(known) if known else None
