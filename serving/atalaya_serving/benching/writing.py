"""Reports into a folder: JSON for programs, Markdown for people, charts where matplotlib is there."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atalaya_serving.benching.errors import InvalidPlan


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Have the folder before anything is measured, and leave none that stayed empty. Raises InvalidPlan."""
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidPlan(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    try:
        yield
    finally:
        if not was_there and not any(folder.iterdir()):
            folder.rmdir()


def write(folder: Path, name: str, report: Any, markdown: str, draw: Callable[[], Sequence[Path]]) -> list[Path]:
    """Write NAME.json, NAME.md and the charts; without matplotlib the charts are left out, and that is all."""
    files = [folder / f"{name}.json", folder / f"{name}.md"]
    files[0].write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    files[1].write_text(markdown, encoding="utf-8")
    try:
        return [*files, *draw()]
    except ModuleNotFoundError:
        return files
