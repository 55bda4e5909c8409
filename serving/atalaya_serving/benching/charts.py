"""Charts as PNG, with matplotlib, which comes with the extra `train`. Colours are told apart without red and green."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atalaya_serving.benching import thesis_figures
from atalaya_serving.benching.records import Row
from atalaya_serving.benching.thesis_records import ThesisReport, group

_DPI = 120
_MARKERS = "osD^v<>Pd*X"


def load_charts(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Speed over calls in flight, latency over calls in flight, CPU an image; a panel a batch."""
    made = [
        _lines(rows, folder / "load-speed.png", "images/s", lambda row: row.images_per_second),
        _lines(rows, folder / "load-latency.png", "latency ms, p50", lambda row: row.latency.p50_ms),
    ]
    if any(row.server_cpu_us_per_image is not None for row in rows):
        made.append(
            _lines(rows, folder / "load-cpu.png", "server CPU µs/image", lambda row: row.server_cpu_us_per_image)
        )
    return made


def bars(file: Path, title: str, unit: str, groups: dict[str, dict[str, float]]) -> Path:
    """Bars of each series side by side: `groups` maps a group on the x axis to values by series."""
    plt = _pyplot()
    series = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure, axes = plt.subplots(figsize=(max(6.0, 1.6 * len(groups)), 4.2))
    width = 0.8 / max(1, len(series))
    for index, name in enumerate(series):
        at = [place + index * width for place in range(len(groups))]
        heights = [values.get(name, 0.0) for values in groups.values()]
        drawn = axes.bar(at, heights, width, label=name, color=_colour(plt, index, len(series)))
        axes.bar_label(drawn, fmt="%.3g", fontsize=7)
    middle = 0.4 - width / 2
    axes.set_xticks([place + middle for place in range(len(groups))], list(groups), fontsize=8)
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend(fontsize=8)
    return _save(plt, figure, file)


def _lines(rows: Sequence[Row], file: Path, label: str, value: Any) -> Path:
    plt = _pyplot()
    batches = sorted({row.cell.batch for row in rows})
    names = list(dict.fromkeys(_series(row) for row in rows))
    figure, panels = plt.subplots(1, len(batches), figsize=(5.2 * len(batches), 4.2), squeeze=False)
    for panel, batch in zip(panels[0], batches, strict=True):
        for index, name in enumerate(names):
            points = sorted(
                (row.cell.concurrency, value(row))
                for row in rows
                if row.cell.batch == batch and _series(row) == name and value(row) is not None
            )
            if points:
                style = {"marker": _MARKERS[index % len(_MARKERS)], "color": _colour(plt, index, len(names))}
                panel.plot(*zip(*points, strict=True), label=name, **style)
        panel.set_title(f"batch {batch}")
        panel.set_xlabel("calls in flight")
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.set_xticks(sorted({row.cell.concurrency for row in rows}))
        panel.grid(alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="lower center", ncols=2, bbox_to_anchor=(0.5, 1.0))
    return _save(plt, figure, file)


def _series(row: Row) -> str:
    rate = "" if row.cell.rate is None else f" at {row.cell.rate:g}/s"
    return f"{row.cell.server} {row.cell.protocol}{rate}"


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _colour(plt: Any, index: int, count: int) -> Any:
    return plt.get_cmap("cividis")(0.05 + 0.85 * index / max(1, count - 1))


def _save(plt: Any, figure: Any, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, dpi=_DPI, bbox_inches="tight")
    plt.close(figure)
    return file


def thesis_charts(report: ThesisReport, folder: Path) -> list[Path]:
    """Times by engine and web layer beside the thesis', and accuracy by epochs."""
    made = []
    if report.served:
        groups: dict[str, dict[str, float]] = {}
        for (model, engine, protocol), own in group(report.served, "model", "engine", "protocol").items():
            groups.setdefault(f"{model}\n{protocol}", {})[engine] = own.total_ms or 0.0
        theirs = {name: one.total_ms for name, one in thesis_figures.ENGINES.items()}
        groups["2020 thesis\nFlask, FastAPI"] = theirs
        made.append(bars(folder / "thesis-total.png", "mean total time of one image", "ms", groups))
    if report.fits:
        accuracy = {
            f"{fit.epochs} epochs": {"here": 100 * fit.accuracy}
            | ({"thesis": 100 * one.accuracy} if (one := thesis_figures.TRAINING.get(fit.epochs)) else {})
            for fit in report.fits
        }
        made.append(bars(folder / "thesis-epochs.png", "accuracy by epochs", "%", accuracy))
    return made
