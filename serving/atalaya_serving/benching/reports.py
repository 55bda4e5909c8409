"""A load benchmark as Markdown. Pure; the JSON is the records themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from atalaya_serving.benching.records import NOISY_SHARE, Report, Row

_COLUMNS = (
    "server", "protocol", "batch", "in flight", "images/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "n",
    "server CPU µs/image", "memory MiB", "marks",
)  # fmt: skip


def load_markdown(report: Report) -> str:
    """The whole report for people."""
    parts = ["# Load", "", machine_line(report.about), ""]
    if not report.complete:
        parts += ["**Stopped before its end**: rows have fewer rounds than planned.", ""]
    parts += [table(_COLUMNS, [_cells(row) for row in report.rows]), "", *_notes(report)]
    if report.starts:
        starts = [
            (one.server, one.precision, f"{one.first_answer_seconds:.1f}", f"{one.memory_mib:.0f}")
            for one in report.starts
        ]
        parts += ["", "Cold start:", "", table(("server", "precision used", "first answer s", "memory MiB"), starts)]
    return "\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a pipe in a cell would break it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def machine_line(about: Mapping[str, Any]) -> str:
    """Machine and versions in one paragraph."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    flags = " ".join(about["processor_flags"]) or "no vector flags known"
    cloud = f", {about['cloud']}" if about.get("cloud") else ""
    return (
        f"{about['processor']} ({flags}), {about['usable_cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB,"
        f" {about['os']} {about['os_version']}{cloud}; Python {about['python']}, {versions}."
    )


def number(value: float | None, digits: int = 0) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def _cells(row: Row) -> list[str]:
    cell, told = row.cell, row.latency
    low, high = row.images_per_second_range
    spread = f" ({low:,.0f}–{high:,.0f})" if row.rounds > 1 else ""
    flight = f"{cell.concurrency}" if cell.rate is None else f"{cell.concurrency}, {cell.rate:g}/s"
    return [
        cell.server,
        cell.protocol,
        str(cell.batch),
        flight,
        f"{row.images_per_second:,.0f}{spread}",
        *(number(value, 1) for value in (told.p50_ms, told.p95_ms, told.p99_ms, told.max_ms)),
        f"{told.count:,}",
        number(row.server_cpu_us_per_image),
        number(row.memory_mib),
        ", ".join(row.marks),
    ]


def _notes(report: Report) -> list[str]:
    rounds = report.plan.get("rounds")
    told = [
        f"images/s: median of {rounds} interleaved rounds (lowest–highest). Latency: over all calls of all rounds; a"
        " quantile that so few calls cannot tell is left out. Client and server share the machine unless --against"
        " names another.",
        f"Marks: steal or other programs took {NOISY_SHARE:.0%} of the processors or more in a round; calls that"
        " failed; calls that were due and never sent (overloaded).",
        "Loop: " + "; ".join(report.plan.get("loop", ())) + "."
        " A closed loop sends nothing while a server stalls, so its tail flatters the server; --rate does not.",
    ]
    for audit in report.audits:
        state = "agrees" if audit.agrees else "DISAGREES"
        told.append(
            f"Counts of {audit.server}: answered {audit.sent_requests:,} calls, {audit.sent_images:,} images; its"
            f" /metrics tells {audit.counted_requests:,} and {audit.counted_images:,}: {state}."
        )
    return [f"- {line}" for line in told]
