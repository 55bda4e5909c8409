"""Areas of interest and masks (cloud, water): polygons or a raster, in any coordinate system, cut to what is read.

Polygons come as GeoJSON, GeoPackage or shapefile and are burnt where a pixel's centre lies inside. In a raster every
pixel that is neither 0 nor nodata is inside.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import ProjError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.windows import Window

from atalaya_serving.scoring.errors import AreaUnreadable, SceneUnreadable
from atalaya_serving.scoring.grid import Grid, Placement, bounds_wgs84, turns
from atalaya_serving.scoring.polygons import Extent, grid_outlines, read_polygons
from atalaya_serving.scoring.scene import is_tiff, opened
from atalaya_serving.scoring.views import Sampling, View

Inside = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PixelBox:
    """A rectangle of the grid's pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Fit:
    """How a region lies to the grid: its own `extent` in degrees (west, south, east, north); the rectangle of the grid
    that it may touch, or None; the share of its polygons' area beyond the grid; the share of the grid that a raster
    knows of; and a sentence about what was mended."""

    extent: Extent
    touched: PixelBox | None
    outside: float
    covered: float
    mended: str = ""


class Region(Protocol):
    """Tells which pixels of a rectangle lie inside. One a thread; `close` lets go of its file."""

    fit: Fit

    def inside(self, box: PixelBox) -> Inside:
        """Bool [height, width]."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


def open_region(path: Path, grid: Grid) -> Region:
    """Polygons or a raster by what the file holds. Raises AreaUnreadable."""
    if not path.exists():
        raise AreaUnreadable(f"{path} does not exist; check the path of --area or --mask.")
    if not is_tiff(path):
        return PolygonRegion(path, grid)
    try:
        return RasterRegion(path, grid)
    except SceneUnreadable as error:
        raise AreaUnreadable(str(error)) from error


class PolygonRegion:
    """Polygons, in the grid's pixels; only those that touch a rectangle are burnt into it."""

    def __init__(self, path: Path, grid: Grid) -> None:
        found = read_polygons(path, grid)
        self._shapes = found.shapes
        self._tree = shapely.STRtree(found.shapes)
        frame = shapely.box(0, 0, grid.width, grid.height)
        met = found.shapes[self._tree.query(frame, predicate="intersects")]
        touched = _box_around(shapely.total_bounds(met), grid) if len(met) else None
        mended = (
            f"{path}: {found.mended} of its {found.count} polygon(s) cross themselves; what they enclose is taken, "
            "which may not be what was meant"
            if found.mended
            else ""
        )
        self.fit = Fit(found.extent, touched, found.outside, 1.0, mended)

    def inside(self, box: PixelBox) -> Inside:
        """Burn the polygons that touch the rectangle."""
        frame = shapely.box(box.x, box.y, box.x + box.width, box.y + box.height)
        found = self._shapes[self._tree.query(frame, predicate="intersects")]
        shape = (box.height, box.width)
        if not len(found):
            return np.zeros(shape, bool)
        if len(found) == 1 and shapely.covers(found[0], frame):
            return np.ones(shape, bool)
        burnt = rasterize(found, shape, transform=Affine.translation(box.x, box.y), dtype="uint8")
        return np.asarray(burnt, bool)

    def close(self) -> None:
        """Nothing is open."""


class RasterRegion:
    """The first band of a raster, brought to the grid by nearest neighbour."""

    def __init__(self, path: Path, grid: Grid) -> None:
        self._path = path
        self._stack = ExitStack()
        dataset = self._stack.enter_context(opened(path))
        if dataset.crs is None:
            self._stack.close()
            raise AreaUnreadable(
                f"{path} has no coordinate reference system; name it with gdal_edit.py -a_srs EPSG:CODE."
            )
        place = Placement(dataset.width, dataset.height, dataset.crs.to_wkt(), tuple(dataset.transform)[:6])
        try:
            self.fit = _fit(place, grid)
            turned = turns(place)
        except ProjError as error:
            self._stack.close()
            raise AreaUnreadable(
                f"{path} lies where its coordinate system cannot be turned into degrees; check its transform and CRS."
            ) from error
        sampling = Sampling(Resampling.nearest, dataset.nodata, dataset.nodata is None)
        self._view = self._stack.enter_context(View(dataset, grid, turned, sampling))

    def inside(self, box: PixelBox) -> Inside:
        """Read the rectangle; what the raster does not cover is outside."""
        window = Window(box.x, box.y, box.width, box.height)
        try:
            values = self._view.read([1], window=window)[0]
            known = self._view.dataset_mask(window=window) > 0
        except RasterioError as error:
            raise AreaUnreadable(f"{self._path} cannot be read ({error}); copy or make it again.") from error
        return np.asarray(known & (np.nan_to_num(values) != 0))

    def close(self) -> None:
        """Close the raster."""
        self._stack.close()


def _fit(place: Placement, grid: Grid) -> Fit:
    """How a raster lies to the grid, seen in the raster's pixels: near the grid they are what they seem."""
    extent = bounds_wgs84(place)
    to_pixel = ~Affine(*place.transform)
    matrix = [to_pixel.a, to_pixel.b, to_pixel.d, to_pixel.e, to_pixel.c, to_pixel.f]
    raster = shapely.box(0, 0, place.width, place.height)
    try:
        outlines = [shapely.affinity.affine_transform(each, matrix) for each in grid_outlines(grid, CRS(place.crs))]
    except ProjError:
        return Fit(extent, None, 1.0, 0.0)  # too far off
    covered = sum(each.intersection(raster).area for each in outlines) / outlines[0].area
    touched = PixelBox(0, 0, grid.width, grid.height) if covered else None
    return Fit(extent, touched, 0.0, min(1.0, covered))


def _box_around(bounds: npt.NDArray[np.float64], grid: Grid) -> PixelBox:
    west, north, east, south = bounds
    x, y = max(0, int(west)), max(0, int(north))
    return PixelBox(x, y, min(grid.width, int(east) + 1) - x, min(grid.height, int(south) + 1) - y)
