"""Where the tiles of a scene lie. Pure: coordinate systems and affines in, a grid out.

A scene in metres, north up, true to scale and of the model's ground sample distance is tiled as it lies. Any other is
tiled on a view of it that is resampled to the model's distance in the scene's UTM zone. So is a scene that runs past
the seam of its coordinate system (180 degrees in most), where the same place has two coordinates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, gcd

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Geod, Proj, Transformer
from pyproj.exceptions import ProjError

from atalaya_serving.scoring.errors import SceneUnplaced
from atalaya_serving.store.records import Affine6, GridGeometry, near

Floats = npt.NDArray[np.float64]

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
    """The raster that is tiled (`width` x `height` pixels, perhaps a resampled view) and its tiles. `turns` are those
    of the scene behind a view."""

    width: int
    height: int
    geometry: GridGeometry
    source_gsd_m: float
    turns: tuple[float, ...] = (0.0,)

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
        turned = turns(scene)
        if in_place(scene, gsd_m, (lon, lat)) and turned == (0.0,):
            place = scene
        else:
            place = _view(scene, gsd_m, utm_zone(lon, lat))
        geometry = GridGeometry(place.crs, place.transform, tile_px, place is not scene, _meridian(place, tile_px))
        return Grid(place.width, place.height, geometry, ground_gsd(scene), turned)
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
    return sum(ground_sides(scene)) / 2


def ground_sides(scene: Placement) -> tuple[float, float]:
    """Width and height of the pixel at the scene's centre, in metres along the ellipsoid."""
    x, y = scene.width / 2, scene.height / 2
    lon, lat = _degrees(scene, np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    _, _, metres = Geod(ellps="WGS84").inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
    return float(metres[0]), float(metres[1])


def bounds_wgs84(scene: Placement, meridian: float = 0.0) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees, of the scene's outline in one piece: around `meridian`, so perhaps past 180.
    Around a pole: all longitudes, up to the pole."""
    lon, lat = outline(scene, "EPSG:4326")
    south, north = float(lat.min()), float(lat.max())
    lon = np.unwrap(lon, period=360)
    if _is_around_pole(lon):
        return (-180.0, south, 180.0, 90.0) if south > 0 else (-180.0, -90.0, 180.0, north)
    middle = (lon.min() + lon.max()) / 2
    lon += 360 * round((meridian - middle) / 360)
    return float(lon.min()), south, float(lon.max()), north


def turns(scene: Placement) -> tuple[float, ...]:
    """What to add to the scene's x so that it is what its coordinate system gives for the place: (0,) for nearly all; a
    whole turn where longitudes are written as 190; both for a scene across the seam, one for each side of it."""
    x, _ = outline(scene, scene.crs)
    lon, lat = outline(scene, "EPSG:4326")
    back = Transformer.from_crs("EPSG:4326", scene.crs, always_xy=True)
    again, _ = back.transform(near(lon, 0.0), lat, errcheck=True)
    moved = again - x
    # A turn is larger than the scene; less is only the inexactness of there and back.
    is_turn = np.abs(moved) > np.ptp(x)
    found = {round(turn / float(np.ptp(x))): turn for turn in moved[is_turn].tolist()}
    return tuple(found.values()) if is_turn.all() else (0.0, *found.values())


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
    lon, lat = _degrees(scene, np.array([scene.width / 2]), np.array([scene.height / 2]))
    return float((lon[0] + 180) % 360 - 180), float(lat[0])


def _degrees(scene: Placement, px: Floats, py: Floats) -> tuple[Floats, Floats]:
    """Pixels to longitude and latitude."""
    return _placed(scene, px, py, "EPSG:4326")


def _placed(scene: Placement, px: Floats, py: Floats, crs: str) -> tuple[Floats, Floats]:
    a, b, c, d, e, f = scene.transform
    to_other = Transformer.from_crs(scene.crs, crs, always_xy=True)
    x, y = to_other.transform(a * px + b * py + c, d * px + e * py + f, errcheck=True)
    return np.asarray(x), np.asarray(y)


def outline(scene: Placement, crs: str) -> tuple[Floats, Floats]:
    """The scene's four sides, 21 points each, in another coordinate system."""
    along = np.linspace(0, 1, 21)
    px = scene.width * np.concatenate([along, np.ones(21), along[::-1], np.zeros(21)])
    py = scene.height * np.concatenate([np.zeros(21), along, np.ones(21), along[::-1]])
    return _placed(scene, px, py, crs)


def _is_around_pole(lon: Floats) -> bool:
    """Whether an unwrapped outline goes round the Earth instead of coming back to where it began."""
    return bool(abs(lon[-1] - lon[0]) > 180)


def _meridian(place: Placement, tile_px: int) -> float:
    """180 for whole tiles that reach over the antimeridian, else 0."""
    width, height = (ceil(side / tile_px) * tile_px for side in (place.width, place.height))
    west, _, east, _ = bounds_wgs84(Placement(width, height, place.crs, place.transform))
    return 180.0 if west < -180 or east > 180 else 0.0


def _view(scene: Placement, gsd_m: float, crs: str) -> Placement:
    x, y = outline(scene, crs)
    # Whole pixels from the origin: two scenes of one place share their pixels' edges.
    west, north = np.floor(x.min() / gsd_m) * gsd_m, np.ceil(y.max() / gsd_m) * gsd_m
    width, height = ceil((x.max() - west) / gsd_m), ceil((north - y.min()) / gsd_m)
    return Placement(width, height, crs, (gsd_m, 0.0, float(west), 0.0, -gsd_m, float(north)))
