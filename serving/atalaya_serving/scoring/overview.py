"""The scene as a picture for the dashboard's map, made from the pixels that pass by while the scene is assessed.

`overview.png` is grey (or colour) with alpha in Web Mercator (what map libraries lay under their layers without bending
it), transparent where there is no data; `overview.json` says where it lies. Each goes to its place by rename.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from atalaya_serving.scoring.errors import OutputUnwritable
from atalaya_serving.scoring.grid import Placement, outline
from atalaya_serving.scoring.tiles import ChunkTiles, ReadPlan
from atalaya_serving.store.records import GridGeometry

IMAGE, PLACE = "overview.png", "overview.json"
# Enough for a map's background; writing the picture is then 2% of the work of a scene of 16,384 pixels a side.
LONGEST_SIDE = 1536
# EPSG:3857 with its middle where it is wanted.
_WEB_MERCATOR = "+proj=merc +a=6378137 +b=6378137 +lon_0={meridian} +nadgrids=@null +no_defs +type=crs"
_RADIUS_M = 6378137.0
_MERCATOR_LIMIT_M = 20037508.342789244
_LEAST_M = 1e-3


class OverviewBuilder:
    """Gathers every n-th pixel of the grid. Threads may add at once what does not overlap."""

    def __init__(self, plan: ReadPlan) -> None:
        self._grid = grid = plan.grid
        channels = 1 if plan.bands.mix else len(plan.bands.indexes)
        self._step = max(1, -(-max(grid.width, grid.height) // LONGEST_SIDE))
        high, wide = -(-grid.height // self._step), -(-grid.width // self._step)
        self._pixels = np.zeros((high, wide, channels), np.uint8)
        self._alpha = np.zeros((high, wide), np.uint8)

    def add(self, tiles: ChunkTiles) -> None:
        """Take a chunk's share."""
        grid, step, tile = self._grid, self._step, self._grid.geometry.tile_px
        x, y = tiles.chunk.col * tile, tiles.chunk.row * tile
        high = min(tiles.image.shape[0], grid.height - y)
        wide = min(tiles.image.shape[1], grid.width - x)
        at = np.s_[-y % step : high : step, -x % step : wide : step]
        picked = tiles.image[at]
        row, col = -(-y // step), -(-x // step)
        here = np.s_[row : row + picked.shape[0], col : col + picked.shape[1]]
        self._pixels[here] = picked
        self._alpha[here] = 255 if tiles.valid is None else tiles.valid[at] * np.uint8(255)

    def write(self, folder: Path) -> None:
        """Warp what was gathered and write both files. Raises OutputUnwritable."""
        transform = Affine(*self._grid.geometry.transform) @ Affine.scale(self._step)
        image, place = _mercator(self._pixels, self._alpha, self._grid.geometry, transform)
        with _told(folder):
            _write_png(folder / IMAGE, image)
            text = json.dumps({"bounds": place, "width": image.shape[2], "height": image.shape[1]})
            temporary = folder / f".{PLACE}.{os.getpid()}"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(folder / PLACE)


def prepare(folder: Path) -> None:
    """Make the folder, before the long work starts. Raises OutputUnwritable."""
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the folder into words."""
    try:
        yield
    except (OSError, RasterioError) as error:
        told = " ".join(str(error).split())
        raise OutputUnwritable(
            f"{folder} cannot take the scene's overview ({told}); free space, or set ATALAYA_SCENES to a folder you "
            "may write to. Rows that were made are safe in the store."
        ) from error


def has_overview(folder: Path) -> bool:
    """Whether both files are there."""
    return (folder / IMAGE).is_file() and (folder / PLACE).is_file()


def _mercator(
    pixels: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], geometry: GridGeometry, transform: Affine
) -> tuple[npt.NDArray[np.uint8], list[float]]:
    """The bands and alpha [c + 1, h, w] in Web Mercator around the grid's meridian, and west, south, east, north in
    degrees, in one piece: past 180 for a grid across the antimeridian."""
    high, wide = alpha.shape
    mercator = _WEB_MERCATOR.format(meridian=geometry.meridian)
    x, y = outline(Placement(wide, high, geometry.crs, tuple(transform)[:6]), mercator)
    x, y = (np.clip(each, -_MERCATOR_LIMIT_M, _MERCATOR_LIMIT_M) for each in (x, y))
    west, north, across, down = x.min(), y.max(), max(np.ptp(x), _LEAST_M), max(np.ptp(y), _LEAST_M)
    resolution = max(across, down) / max(high, wide)
    width, height = max(1, round(across / resolution)), max(1, round(down / resolution))
    placed = Affine(across / width, 0, west, 0, -down / height, north)
    bands = [*np.moveaxis(pixels, -1, 0), alpha]
    image = np.zeros((len(bands), height, width), np.uint8)
    with rasterio.Env():
        for source, target in zip(bands, image, strict=True):
            reproject(
                np.ascontiguousarray(source),
                target,
                src_transform=transform,
                src_crs=geometry.crs,
                dst_transform=placed,
                dst_crs=mercator,
                resampling=Resampling.nearest,
            )
    lon = np.degrees(np.array([west, west + across]) / _RADIUS_M) + geometry.meridian
    lat = np.degrees(np.arctan(np.sinh(np.array([north - down, north]) / _RADIUS_M)))
    return image, [float(lon[0]), float(lat[0]), float(lon[1]), float(lat[1])]


def _write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    shape = {"width": image.shape[2], "height": image.shape[1], "count": len(image), "dtype": "uint8"}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(temporary, "w", driver="PNG", zlevel=1, **shape) as target:
        target.write(image)
    temporary.replace(path)
