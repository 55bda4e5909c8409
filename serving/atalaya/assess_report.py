"""What `atalaya assess` says: warnings before the work, progress during it, the result after; in words or as JSON.

Progress and warnings go to stderr, the result to stdout.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atalaya_serving.scoring.assessment import AssessResult, Progress
    from atalaya_serving.scoring.counts import Count


def tell_warnings(warnings: Iterable[str], how: str) -> None:
    """Each once, one a line; as events where progress is told in JSON."""
    for warning in dict.fromkeys(warnings):
        told = json.dumps({"event": "warning", "message": warning}) if how == "json" else f"warning: {warning}"
        print(told, file=sys.stderr, flush=True)


def progress_teller(how: str, name: str, stack: ExitStack) -> "Callable[[Progress], None] | None":
    """A bar on a terminal, JSON lines where asked, else nothing."""
    if how == "json":
        return _tell_json
    if how == "none" or not sys.stderr.isatty():
        return None
    return _Bar(name, stack).tell


class _Bar:
    """Made at the first progress: only then is it known how many tiles were there before, which its rate leaves out."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self._name, self._stack = name, stack
        self._bar: Any = None

    def tell(self, progress: "Progress") -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(self._made(progress))
        self._bar.update(progress.done - self._bar.n)
        self._bar.refresh()

    def _made(self, progress: "Progress") -> Any:
        from tqdm import tqdm

        name = f"{self._name}, resumed at {progress.resumed:,}" if progress.resumed else self._name
        # A terminal without a size, as some tools give, says that it is 0 columns wide.
        wide = os.get_terminal_size(sys.stderr.fileno()).columns
        size: dict[str, Any] = {"dynamic_ncols": True} if wide else {"ncols": 80, "nrows": 24}
        size |= {"total": progress.total, "initial": progress.resumed}
        return tqdm(desc=name, unit=" tiles", mininterval=0, file=sys.stderr, **size)


def _tell_json(progress: "Progress") -> None:
    told = {
        "event": "progress",
        "done": progress.done,
        "total": progress.total,
        "resumed": progress.resumed,
        "tiles_per_s": round(progress.tiles_per_second, 1),
        "eta_s": None if progress.eta_seconds is None else round(progress.eta_seconds, 1),
    }
    print(json.dumps(told), file=sys.stderr, flush=True)


def as_json(result: "AssessResult") -> dict[str, Any]:
    """A result for programs."""
    assessment, count = result.assessment, result.count
    return {
        "assessment": assessment.id,
        "scene": assessment.scene_name,
        "scene_digest": assessment.scene_digest,
        "model": assessment.model,
        "version": assessment.version,
        "model_digest": assessment.model_digest,
        "tiles": assessment.tiles_total,
        "assessed": count.n,
        "not_assessed": result.not_assessed,
        "damaged": _count_as_json(count),
        "stretch": assessment.stretch,
        "resumed": result.resumed,
        "load_seconds": result.load_seconds,
        "seconds": result.seconds,
        "tiles_per_s": result.tiles_per_second,
        "warnings": list(assessment.warnings),
    }


def _count_as_json(count: "Count") -> dict[str, float | str] | None:
    """None, not 0, where no tile was assessed: nothing is known then."""
    from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT

    if not count.n:
        return None
    told = {"expected": count.expected, "low": count.low, "high": count.high, "level": 0.9}
    return told | {"caveat": INTERVAL_CAVEAT}


def as_text(result: "AssessResult") -> str:
    """A result for people."""
    from atalaya_serving.scoring.assessment import words

    assessment, count, left_out = result.assessment, result.count, words(result.not_assessed)
    lines = [
        f"{assessment.scene_name}: {count.n:,} of {assessment.tiles_total:,} tiles assessed with {assessment.model} "
        f"version {assessment.version}" + (f"; not assessed: {left_out}" if left_out else ""),
        *_damaged(count),
        f"  {_effort(result)}",
        f"  assessment {assessment.id}",
    ]
    return "\n".join(lines)


def _damaged(count: "Count") -> list[str]:
    from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT

    if not count.n:
        return ["  damaged: unknown, no tile was assessed"]
    told = f"  damaged: {count.expected:,.0f} tiles (90% interval {count.low:,.0f} to {count.high:,.0f})"
    return [told, f"  {INTERVAL_CAVEAT}"]


def _effort(result: "AssessResult") -> str:
    loaded = f"the model took {result.load_seconds:.1f} s to load"
    if result.new_tiles == 0:
        return f"nothing was left to do: all {result.resumed:,} tiles were there before"
    rate = f"{result.seconds:.1f} s, {result.tiles_per_second:,.0f} tiles/s; {loaded}"
    if not result.resumed:
        return rate
    return f"resumed at {result.resumed:,}, {result.new_tiles:,} tiles were left: {rate}"
