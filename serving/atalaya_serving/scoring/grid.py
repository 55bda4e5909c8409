"""Where the tiles of a scene lie. Pure: coordinate systems and affines in, a grid out.

A scene in metres, north up, true to scale and of the model's ground sample distance is tiled as it lies. Any other is
tiled on a view of it that is resampled to the model's distance in the scene's UTM zone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, gcd, hypot

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import CRS, Proj, Transformer
from pyproj.exceptions import ProjError

from atalaya_serving.scoring.errors import SceneUnplaced
from atalaya_serving.store.records import Affine6, GridGeometry

_TRUE_SCALE = 0.01
_SAME_GSD = 0.02
_CHUNK_PIXELS = 1 << 22
_WARPED_CHUNK_TILES = 8


@dataclass(frozen=True)
class Placement:
    """Where a raster lies: its size in pixels, its coordinate system as WKT and the affine of its pixels."""

    width: int
    height: int
    crs: str
    transform: Affine6


@dataclass(frozen=True)
class Grid:
    """The raster that is tiled (`width` x `height` pixels, perhaps a resampled view) and its tiles."""

    width: int
    height: int
    geometry: GridGeometry
    source_gsd_m: float

    @property
    def rows(self) -> int:
        """Rows of tiles, the last may reach over the edge."""
        return ceil(self.height / self.geometry.tile_px)

    @property
    def cols(self) -> int:
        """Columns of tiles, the last may reach over the edge."""
        return ceil(self.width / self.geometry.tile_px)

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Chunk:
    """A rectangle of tiles that is read at once: rows [row, row_end), columns [col, col_end)."""

    row: int
    row_end: int
    col: int
    col_end: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return self.row_end - self.row, self.col_end - self.col


def plan_grid(scene: Placement, tile_px: int, gsd_m: float, name: str = "the scene") -> Grid:
    """Tile the scene in place where that is true to the model, else through its UTM zone. Raises SceneUnplaced."""
    try:
        lon, lat = _centre(scene)
        gsd = ground_gsd(scene)
        if in_place(scene, gsd_m, (lon, lat)):
            geometry = GridGeometry(scene.crs, scene.transform, tile_px, False)
            return Grid(scene.width, scene.height, geometry, gsd)
        return _warped(scene, tile_px, gsd_m, utm_zone(lon, lat))
    except ProjError as error:
        raise SceneUnplaced(
            f"{name} lies where its coordinate system cannot be turned into degrees ({error}); check its transform and "
            "CRS (gdalinfo)."
        ) from error


def in_place(scene: Placement, gsd_m: float, centre: tuple[float, float]) -> bool:
    """Whether the scene's own pixels serve: metres, north up, within 1% of true scale, within 2% of the model's GSD."""
    crs = CRS.from_wkt(scene.crs)
    a, b, _, d, e, _ = scene.transform
    if not crs.is_projected or any(axis.unit_conversion_factor != 1 for axis in crs.axis_info[:2]):
        return False
    if a <= 0 or e >= 0 or max(abs(b), abs(d)) > 1e-9 * a:
        return False
    if max(abs(a / gsd_m - 1), abs(-e / gsd_m - 1)) > _SAME_GSD + 1e-9:
        return False
    factors = Proj(crs).get_factors(*centre)
    scales = (factors.meridional_scale, factors.parallel_scale)
    return all(abs(scale - 1) <= _TRUE_SCALE for scale in scales)


def utm_zone(lon: float, lat: float) -> str:
    """The WKT of the UTM zone of a place, or of the polar stereographic zone beyond UTM's reach."""
    if lat > 84 or lat < -80:
        return str(CRS.from_epsg(32661 if lat > 0 else 32761).to_wkt())
    zone = int(((lon + 180) % 360) // 6) + 1
    return str(CRS.from_epsg((32600 if lat >= 0 else 32700) + zone).to_wkt())


def ground_gsd(scene: Placement) -> float:
    """The true size of the scene's pixels on the ground, in metres, at its centre: the mean of the two sides."""
    lon, lat = _centre(scene)
    to_local = Transformer.from_crs(scene.crs, utm_zone(lon, lat), always_xy=True)
    affine, x, y = Affine(*scene.transform), scene.width / 2, scene.height / 2
    corners = [affine @ at for at in ((x, y), (x + 1, y), (x, y + 1))]
    (ox, oy), (rx, ry), (dx, dy) = (to_local.transform(*at, errcheck=True) for at in corners)
    return (hypot(rx - ox, ry - oy) + hypot(dx - ox, dy - oy)) / 2


def bounds_wgs84(scene: Placement) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees, of the scene's outline."""
    lon, lat = outline(scene, "EPSG:4326")
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def chunks(grid: Grid, block: tuple[int, int], bands: int = 1) -> Iterator[Chunk]:
    """Cut the grid into what is read at once: whole blocks (height, width) of the file, so that none is decoded twice,
    about four million values each; square pieces for a view that is resampled."""
    tile = grid.geometry.tile_px
    if grid.geometry.warped:
        high, wide = _WARPED_CHUNK_TILES, _WARPED_CHUNK_TILES
    else:
        high, wide = _whole(block[0], tile), _whole(block[1], tile)
        room = max(1, _CHUNK_PIXELS // (tile * tile * bands))
        high = max(1, min(high, room))
        wide = wide * max(1, room // (high * wide)) if high * wide <= room else max(1, room // high)
        if block[1] >= grid.width:
            wide = grid.cols if grid.cols * high <= 4 * room else wide
    for row in range(0, grid.rows, high):
        for col in range(0, grid.cols, wide):
            yield Chunk(row, min(row + high, grid.rows), col, min(col + wide, grid.cols))


def _whole(block: int, tile: int) -> int:
    """The fewest tiles that are a whole number of blocks; one tile where that is out of reach."""
    together = block * tile // gcd(block, tile)
    return together // tile if together <= 16 * tile else max(1, ceil(block / tile))


def _centre(scene: Placement) -> tuple[float, float]:
    to_degrees = Transformer.from_crs(scene.crs, "EPSG:4326", always_xy=True)
    x, y = Affine(*scene.transform) @ (scene.width / 2, scene.height / 2)
    lon, lat = to_degrees.transform(x, y, errcheck=True)
    return (lon + 180) % 360 - 180, lat


def outline(scene: Placement, crs: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The scene's four sides, 21 points each, in another coordinate system."""
    along = np.linspace(0, 1, 21)
    px = scene.width * np.concatenate([along, np.ones(21), along[::-1], np.zeros(21)])
    py = scene.height * np.concatenate([np.zeros(21), along, np.ones(21), along[::-1]])
    a, b, c, d, e, f = scene.transform
    to_other = Transformer.from_crs(scene.crs, crs, always_xy=True)
    x, y = to_other.transform(a * px + b * py + c, d * px + e * py + f, errcheck=True)
    return np.asarray(x), np.asarray(y)


def _warped(scene: Placement, tile_px: int, gsd_m: float, crs: str) -> Grid:
    x, y = outline(scene, crs)
    # Whole pixels from the origin: two scenes of one place share their pixels' edges.
    west, north = np.floor(x.min() / gsd_m) * gsd_m, np.ceil(y.max() / gsd_m) * gsd_m
    width, height = ceil((x.max() - west) / gsd_m), ceil((north - y.min()) / gsd_m)
    transform = (gsd_m, 0.0, float(west), 0.0, -gsd_m, float(north))
    return Grid(width, height, GridGeometry(crs, transform, tile_px, True), ground_gsd(scene))
