"""The ground that each tile covers, as polygons for a file: as the scene has its coordinates, or in valid degrees."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from shapely.affinity import affine_transform

from atalaya_serving.scoring.grid import Placement, turns
from atalaya_serving.store import Scene, TileTable
from atalaya_serving.store.records import near

Shapes = npt.NDArray[np.object_]


def in_degrees(table: TileTable) -> Shapes:
    """In WGS 84, longitudes within -180 to 180. A tile across the antimeridian is two polygons, one on either side, as
    RFC 7946 (3.1.9) has it."""
    lon = within_180(table)
    shapes = np.asarray(shapely.polygons(np.stack([lon, table.corners[..., 1]], axis=-1)))
    across = (np.abs(lon) > 180).any(axis=1)
    shapes[across] = [_cut(shape) for shape in shapes[across]]
    return shapes


def within_180(table: TileTable) -> npt.NDArray[np.float64]:
    """Longitudes of the corners [n, 4]: tiles lie within -180 to 180 but for those across, which reach over."""
    lon = table.corners[..., 0]
    middle = lon.mean(axis=1, keepdims=True)
    return np.asarray(lon + (near(middle, 0.0) - middle))


def as_the_scene(table: TileTable, scene: Scene) -> Shapes:
    """In the scene's own coordinates, also where those run past the seam of its coordinate system: so that they lie on
    the scene when both are opened."""
    corners = table.grid.corners(table.row, table.col)
    if table.grid.crs == scene.crs:
        return np.asarray(shapely.polygons(corners))
    to_scene = Transformer.from_crs(table.grid.crs, scene.crs, always_xy=True)
    x, y = to_scene.transform(corners[..., 0], corners[..., 1])
    a, b, c, *_ = scene.transform
    middle = a * scene.width / 2 + b * scene.height / 2 + c
    turned = np.stack([x - turn for turn in turns(Placement(scene.width, scene.height, scene.crs, scene.transform))])
    nearest = np.abs(turned - middle).argmin(axis=0)
    x = np.take_along_axis(turned, nearest[None], axis=0)[0]
    return np.asarray(shapely.polygons(np.stack([x, y], axis=-1)))


def _cut(shape: Any) -> Any:
    world = shapely.box(-180, -90, 180, 90)
    moved = [affine_transform(shape, [1, 0, 0, 1, turn, 0]) for turn in (0, 360, -360)]
    return shapely.MultiPolygon([part for part in shapely.intersection(moved, world) if part.area > 0])
