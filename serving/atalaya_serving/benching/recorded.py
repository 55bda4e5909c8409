"""Means of the predictions that the system of 2020 recorded (`recorded-predictions.csv.gz`)."""

import csv
import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atalaya_serving.benching.errors import InvalidPlan

_COLUMNS = ("engine", "web", "cores", "inference_s", "total_s")


def read_recorded(file: Path) -> tuple[Mapping[str, Any], ...]:
    """Read and average. Raises InvalidPlan for a file that is no recording."""
    opener: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8", newline="") as lines:
            return means(csv.DictReader(lines))
    except OSError as error:
        raise InvalidPlan(f"{file} cannot be read ({error.strerror or error}); correct --recorded.") from error
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise InvalidPlan(f"{file} is no recording: it needs the columns {', '.join(_COLUMNS)} ({error}).") from error


def means(rows: Iterable[Mapping[str, str]]) -> tuple[Mapping[str, Any], ...]:
    """One line a combination of engine, web layer and cores, sorted."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        key = (row["engine"], row["web"], row["cores"])
        found.setdefault(key, []).append((float(row["inference_s"]), float(row["total_s"])))
    return tuple(
        {
            "engine": engine,
            "web": web,
            "cores": cores,
            "count": len(times),
            "inference_ms": 1000 * sum(inference for inference, _ in times) / len(times),
            "total_ms": 1000 * sum(total for _, total in times) / len(times),
        }
        for (engine, web, cores), times in sorted(found.items())
    )
