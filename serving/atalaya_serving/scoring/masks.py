"""Areas of interest and masks (cloud, water): polygons or a raster, in any coordinate system, cut to what is read.

Polygons come as GeoJSON, GeoPackage or shapefile and are burnt where a pixel's centre lies inside. In a raster every
pixel that is neither 0 nor nodata is inside.
"""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.windows import Window

from atalaya_serving.scoring.errors import AreaUnreadable, SceneUnreadable
from atalaya_serving.scoring.grid import Grid, Placement, turns
from atalaya_serving.scoring.scene import opened
from atalaya_serving.scoring.views import Sampling, View

Inside = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PixelBox:
    """A rectangle of the grid's pixels."""

    x: int
    y: int
    width: int
    height: int


class Region(Protocol):
    """Tells which pixels of a rectangle lie inside. One a thread; `close` lets go of its file."""

    def inside(self, box: PixelBox) -> Inside:
        """Bool [height, width]."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


def open_region(path: Path, grid: Grid) -> Region:
    """Polygons or a raster by what the file holds. Raises AreaUnreadable."""
    try:
        with opened(path):
            pass
    except SceneUnreadable as error:
        if not path.exists():
            raise AreaUnreadable(f"{path} does not exist; check the path of --area or --mask.") from error
        return PolygonRegion(path, grid)
    return RasterRegion(path, grid)


class PolygonRegion:
    """Polygons, in the grid's coordinate system; only those that touch a rectangle are burnt into it."""

    def __init__(self, path: Path, grid: Grid) -> None:
        shapes = _polygons(path, grid.geometry.crs)
        to_pixel = ~Affine(*grid.geometry.transform)
        matrix = [to_pixel.a, to_pixel.b, to_pixel.d, to_pixel.e, to_pixel.c, to_pixel.f]
        self._shapes = shapely.transform(
            shapes, lambda xy: xy @ np.array([[matrix[0], matrix[2]], [matrix[1], matrix[3]]]) + matrix[4:]
        )
        self._tree = shapely.STRtree(self._shapes)

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
        sampling = Sampling(Resampling.nearest, dataset.nodata, dataset.nodata is None)
        self._view = self._stack.enter_context(View(dataset, grid, turns(place), sampling))

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


def _polygons(path: Path, crs: str) -> npt.NDArray[Any]:
    """The polygons of a file in `crs`, mended where they cross themselves. Raises AreaUnreadable."""
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyproj.exceptions import ProjError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "more than one layer": the first is read, as the docs say
            frame = geopandas.read_file(path, columns=[])
    except (DataSourceError, DataLayerError, OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise AreaUnreadable(
            f"{path} is neither polygons (GeoJSON, GeoPackage, shapefile) nor a GeoTIFF ({told}); give one of these."
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise AreaUnreadable(f"{path} has no geometry; give polygons.")
    if frame.crs is None:
        raise AreaUnreadable(f"{path} names no coordinate reference system; write it with one (GeoJSON is WGS 84).")
    shapes = frame.geometry.dropna().to_numpy()
    shapes = shapes[~shapely.is_empty(shapes)]
    kinds = set(shapely.get_type_id(shapes).tolist())
    if not len(shapes) or not kinds <= {3, 6}:
        what = "no shapes" if not len(shapes) else "shapes that are no polygons"
        raise AreaUnreadable(f"{path} has {what}; an area or a mask is made of polygons.")
    try:
        moved = frame.geometry.dropna().to_crs(CRS.from_wkt(crs)).to_numpy()
    except ProjError as error:
        raise AreaUnreadable(f"{path} cannot be brought to the scene ({error}); check its coordinates.") from error
    moved = moved[shapely.is_valid_input(moved) & ~shapely.is_empty(moved)]
    return np.asarray(shapely.make_valid(moved))
