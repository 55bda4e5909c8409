"""Where things lie on the flat map: longitudes in one piece, and cells cut to the scene. Pure.

A scene across the antimeridian has longitudes on both sides of ±180. A flat map can show it only in one piece, so all
that is drawn is brought to within half a turn of the scene's middle, which itself stays within ±180. H3 and people get
the usual longitudes back.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import h3
import numpy as np
import shapely
from numpy.typing import NDArray

Point = tuple[float, float]
Ring = tuple[Point, ...]
Bounds = tuple[float, float, float, float]
Degrees = TypeVar("Degrees", float, NDArray[np.float64])


def wrapped(longitude: Degrees) -> Degrees:
    """Within -180 (included) and 180, as people and H3 write it."""
    return (longitude + 180.0) % 360.0 - 180.0


def near(longitude: Degrees, middle: float) -> Degrees:
    """The same meridian, within half a turn of `middle`."""
    return middle + wrapped(longitude - middle)


def middle_of(longitudes: NDArray[np.float64]) -> float:
    """The middle of longitudes that lie within half a turn of each other, within ±180."""
    first = float(longitudes.flat[0])
    together = near(longitudes, first)
    return float(wrapped((together.min() + together.max()) / 2))


def in_one_piece(points: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """Points [..., 2] (lon, lat) brought near `middle`."""
    return np.stack([near(points[..., 0], middle), points[..., 1]], axis=-1)


def bounds_near(bounds: Sequence[float], middle: float | None = None) -> Bounds:
    """West, south, east, north around `middle` (their own without one); east may be given smaller than west."""
    west, south, east, north = (float(value) for value in bounds)
    width = (east - west) % 360.0 or (360.0 if east != west else 0.0)
    centre = wrapped(west + width / 2)
    if middle is not None:
        centre = near(centre, middle)
    return centre - width / 2, south, centre + width / 2, north


def cell_rings(names: Sequence[str], outline: Sequence[Point]) -> list[Ring]:
    """The outlines of H3 cells near the scene, each cut to the scene's `outline`: no colour lies where no tile does."""
    if not names:
        return []
    corners = np.array(outline)
    middle = middle_of(corners[:, 0])
    scene = shapely.Polygon(in_one_piece(corners, middle))
    whole = np.array([shapely.Polygon(_ring(name, middle)) for name in names])
    shapely.prepare(scene)
    cut = np.where(shapely.contains(scene, whole), whole, shapely.intersection(whole, scene))
    return [_points(part if _is_area(part) else full) for part, full in zip(cut, whole, strict=True)]


def _ring(name: str, middle: float) -> list[Point]:
    """A cell's corners (H3 gives lat, lng)."""
    return [(near(lon, middle), lat) for lat, lon in h3.cell_to_boundary(name)]


def _is_area(shape: Any) -> bool:
    return isinstance(shape, shapely.Polygon) and not shape.is_empty


def _points(shape: Any) -> Ring:
    return tuple((float(x), float(y)) for x, y in shape.exterior.coords[:-1])


def label_point(ring: Ring) -> Point:
    """Where a number is written on a cell."""
    at = shapely.Polygon(ring).centroid
    return float(at.x), float(at.y)
