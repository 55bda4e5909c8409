"""Reads polygons for an area or a mask and brings those near the scene to the grid's pixels.

What lies far from the scene is cut off before it is brought over: a projection bends or breaks far from its zone, so a
layer of the whole world could not be used otherwise.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import affine_transform

from atalaya_serving.scoring.errors import AreaUnreadable
from atalaya_serving.scoring.grid import Grid, Placement, outline

Shapes = npt.NDArray[np.object_]
Extent = tuple[float, float, float, float]
_POLYGON, _MULTIPOLYGON = 3, 6
_EDGES = 64


@dataclass(frozen=True)
class Polygons:
    """`shapes` are in the grid's pixels. `extent` is west, south, east, north in degrees of all that the file holds;
    `outside` the share of its area beyond the grid; `mended` how many of its `count` polygons crossed themselves."""

    shapes: Shapes
    extent: Extent
    outside: float
    mended: int
    count: int


def read_polygons(path: Path, grid: Grid) -> Polygons:
    """The polygons of a file near the grid. Raises AreaUnreadable."""
    frame = _read(path)
    shapes = shapely.force_2d(frame.geometry.dropna().to_numpy())
    shapes = shapes[~shapely.is_empty(shapes)]
    kinds = set(shapely.get_type_id(shapes).tolist())
    if not len(shapes) or not kinds <= {_POLYGON, _MULTIPOLYGON}:
        what = "no shapes" if not len(shapes) else "shapes that are no polygons"
        raise AreaUnreadable(f"{path} has {what}; an area or a mask is made of polygons.")
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise AreaUnreadable(f"{path} has corners that are no numbers; draw it again.")
    crossed = ~shapely.is_valid(shapes)
    shapes[crossed] = [_mended(shape) for shape in shapes[crossed]]
    if not shapely.area(shapes).sum():
        raise AreaUnreadable(f"{path} has polygons that enclose nothing; draw them again.")
    try:
        extent = _extent(shapes, frame.crs, path)
    except ProjError as error:
        raise AreaUnreadable(
            f"{path} cannot be brought to degrees; check its coordinates and its coordinate reference system."
        ) from error
    try:
        near, outside = _near(shapes, frame.crs, grid)
        placed = _to_pixels(near, frame.crs, grid)
    except ProjError:
        placed, outside = np.empty(0, object), 1.0  # too far off for the one to be told in the other's coordinates
    return Polygons(placed, extent, max(0.0, outside), int(crossed.sum()), len(shapes))


def _read(path: Path) -> Any:
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError

    broken = (DataSourceError, DataLayerError, FeatureError, GeometryError, shapely.errors.ShapelyError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "more than one layer": the first is read, as the docs say
            frame = geopandas.read_file(path, columns=[])
    except (*broken, ProjError, OSError, ValueError) as error:
        raise AreaUnreadable(
            f"{path} is neither polygons (GeoJSON, GeoPackage, shapefile) nor a GeoTIFF{_why(path)}; give one of these."
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise AreaUnreadable(f"{path} has no geometry; give polygons.")
    if frame.crs is None:
        raise AreaUnreadable(f"{path} names no coordinate reference system; write it with one (GeoJSON is WGS 84).")
    return frame


def _why(path: Path) -> str:
    """Where GeoJSON breaks off, as an editor counts; GDAL's own words say less."""
    if path.suffix.lower() in {".geojson", ".json"}:
        try:
            told = json.loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as error:
            return f" (it is no JSON from line {error.lineno}, column {error.colno})"
        except (OSError, ValueError):
            return ""
        return "" if isinstance(told, dict) and "type" in told else " (it is JSON, but no GeoJSON)"
    if path.suffix.lower() == ".shp":
        missing = [end for end in (".shx", ".dbf", ".prj") if not path.with_suffix(end).exists()]
        return f" (its {' and '.join(missing)} is missing beside it)" if missing else ""
    return ""


def _mended(shape: Any) -> Any:
    """What a polygon that crosses itself encloses, without the lines and points that are left over."""
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shape)))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])


def _extent(shapes: Shapes, crs: CRS, path: Path) -> Extent:
    west, south, east, north = shapely.total_bounds(shapes)
    if crs.is_geographic and (max(abs(south), abs(north)) > 90.001 or max(abs(west), abs(east)) > 720):
        raise AreaUnreadable(
            f"{path} says {crs.name} and has coordinates that are no degrees ({west:,.0f} {south:,.0f} to {east:,.0f} "
            f"{north:,.0f}); write it in degrees, or in a format that names its coordinate reference system."
        )
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    told = to_degrees.transform_bounds(west, south, east, north)
    return tuple(float(value) for value in told)  # type: ignore[return-value]


def _near(shapes: Shapes, crs: CRS, grid: Grid) -> tuple[Shapes, float]:
    """What lies around the grid, and the share of the whole area that lies outside it."""
    frames = grid_outlines(grid, crs)
    inside, found = 0.0, []
    for frame in frames:
        west, south, east, north = frame.bounds
        margin = max(east - west, north - south)
        around = shapely.box(west - margin, south - margin, east + margin, north + margin)
        touching = shapes[shapely.intersects(shapes, around)]
        if len(touching):
            inside += shapely.area(shapely.intersection(touching, frame)).sum()
            found.append(shapely.segmentize(shapely.intersection(touching, around), margin / _EDGES))
    near = np.concatenate(found) if found else np.empty(0, object)
    return near, 1 - inside / float(shapely.area(shapes).sum())


def grid_outlines(grid: Grid, crs: CRS) -> list[Any]:
    """The grid's outline as polygons in another system: in degrees three, since 179 may be written as -181 too."""
    x, y = outline(Placement(grid.width, grid.height, grid.geometry.crs, grid.geometry.transform), crs.to_wkt())
    if not crs.is_geographic:
        return [shapely.make_valid(shapely.Polygon(np.column_stack([x, y])))]
    frame = shapely.make_valid(shapely.Polygon(np.column_stack([np.unwrap(x, period=360), y])))
    return [affine_transform(frame, [1, 0, 0, 1, turn, 0]) for turn in (0, 360, -360)]


def _to_pixels(shapes: Shapes, crs: CRS, grid: Grid) -> Shapes:
    to_grid = Transformer.from_crs(crs, grid.geometry.crs, always_xy=True)
    a, b, c, d, e, f = tuple(~Affine(*grid.geometry.transform))[:6]

    def placed(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = to_grid.transform(xy[:, 0], xy[:, 1], errcheck=True)
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    return np.asarray(shapely.make_valid(shapely.transform(shapes, placed))).reshape(-1)
