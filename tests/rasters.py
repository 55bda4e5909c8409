"""Scenes for the tests: tiles of known brightness, written as any kind of GeoTIFF."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

UTM18 = Affine(0.5, 0, 783000, 0, -0.5, 2052000)
TILE = 128


def brightness(row: int, col: int) -> int:
    """The grey level of the tile at (row, col): all different, none black."""
    return 40 + 20 * row + 3 * col


def steps(rows: int = 4, cols: int = 5, tile: int = TILE) -> np.ndarray:
    """uint8 [h, w]: every tile in its own grey, give or take one."""
    levels = np.array([[brightness(row, col) for col in range(cols)] for row in range(rows)], np.uint8)
    return textured(np.kron(levels, np.ones((tile, tile), np.uint8)))


def textured(levels: np.ndarray) -> np.ndarray:
    """The same [h, w], one more and one less in squares of 8 pixels: a tile's mean stays, and it is not constant."""
    y, x = np.indices(levels.shape)
    return levels - 1 + (2 * ((y // 8 + x // 8) % 2)).astype(levels.dtype)


def write_scene(path: Path, pixels: np.ndarray, **changes: Any) -> Path:
    """Write [h, w] or [b, h, w] as a GeoTIFF at 0.5 m in UTM 18N; `changes` go to rasterio, but for `mask` (an internal
    one) and `colours` (colour interpretations)."""
    mask, colours = changes.pop("mask", None), changes.pop("colours", None)
    bands = pixels if pixels.ndim == 3 else pixels[None]
    profile = {
        "driver": "GTiff",
        "height": bands.shape[1],
        "width": bands.shape[2],
        "count": len(bands),
        "dtype": bands.dtype,
        "crs": "EPSG:32618",
        "transform": UTM18,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
    } | changes
    profile = {name: value for name, value in profile.items() if value is not None}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as target:
        target.write(bands)
        if colours:
            target.colorinterp = [rasterio.enums.ColorInterp[colour] for colour in colours]
        if mask is not None:
            target.write_mask(mask)
    return path
