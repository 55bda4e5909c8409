"""Pictures for a run and its model card: the loss curve and the reliability diagram. No imagery is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atalaya_serving.training.metrics import Bin

INK, QUIET = "#00224e", "#a69d75"  # the two ends of cividis, told apart by everyone


def loss_curve(histories: Mapping[str, Sequence[float]], file: Path) -> None:
    """Write a PNG of the training loss by epoch, one line a fit."""
    figure, axes = _figure()
    for name, losses in histories.items():
        final = name == "final"
        axes.plot(
            range(1, len(losses) + 1), losses, color=INK if final else QUIET, lw=1.6 if final else 0.7, label=name
        )
    axes.set(xlabel="epoch", ylabel="training loss", title="Training loss")
    if len(histories) <= 6:
        axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def reliability_diagram(series: Mapping[str, Sequence[Bin]], file: Path) -> None:
    """Write the share of damaged tiles over the mean probability of each bin, with 95% intervals; format by suffix."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="#888888", lw=0.8, ls="--", label="perfect")
    for (name, bins), colour, marker in zip(series.items(), (INK, QUIET), "os", strict=False):
        x, y = [b.mean_probability for b in bins], [b.observed_share for b in bins]
        spread = [[b.observed_share - b.observed_low for b in bins], [b.observed_high - b.observed_share for b in bins]]
        axes.errorbar(x, y, yerr=spread, color=colour, marker=marker, lw=1.2, capsize=3, label=name)
        for bin_, left, up in zip(bins, x, y, strict=True):
            if name == next(iter(series)):
                axes.annotate(f"n={bin_.count}", (left, up), xytext=(5, -11), textcoords="offset points", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability", ylabel="share damaged", title="Reliability")
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)


def _figure() -> tuple[Any, Any]:
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "atalaya"
    figure = Figure(figsize=(5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
