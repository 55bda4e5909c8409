"""What lies in a scene's folder below ATALAYA_SCENES: its picture and, for a scene that a program made, the truth.

A file that is missing or broken is no file: the map is then drawn without it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from atalaya_dashboard.grid_image import Overlay, webp_url
from atalaya_dashboard.placement import Ring, bounds_near, near

OVERVIEW_SIDE_PX = 2048
TRUTH_FILE = "truth.geojson"


@dataclass(frozen=True)
class Truth:
    """What is known of a synthetic scene: the outlines of its damaged tiles, and of how many tiles it is known."""

    damaged: tuple[Ring, ...]
    known: int


def overview(folder: Path, middle: float | None = None) -> Overlay | None:
    """The scene's picture, made small enough to travel inside the map, with longitudes near `middle`."""
    try:
        told = json.loads((folder / "overview.json").read_text(encoding="utf-8"))
        west, south, east, north = bounds_near(told["bounds"], middle)
        with Image.open(folder / "overview.png") as picture:
            url = webp_url(picture, OVERVIEW_SIDE_PX)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Overlay(url, ((west, south), (west, north), (east, north), (east, south)))


def truth(folder: Path, middle: float) -> Truth | None:
    """The known damage of a synthetic scene; None where nothing is known, as for every real scene."""
    try:
        told = json.loads((folder / TRUTH_FILE).read_text(encoding="utf-8"))
        features = list(told["features"])
        damaged = tuple(_ring(each, middle) for each in features if int(each["properties"]["damaged"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return Truth(damaged, len(features))


def _ring(feature: Any, middle: float) -> Ring:
    ring = feature["geometry"]["coordinates"][0]
    return tuple((near(float(lon), middle), float(lat)) for lon, lat, *_ in ring[:-1])
