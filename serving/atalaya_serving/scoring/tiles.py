"""Reads a rectangle of tiles and makes of it what the model sees, or says why a tile cannot be assessed.

One reader belongs to one thread: it has its own handles. All tiles of a rectangle are cut from one read. Pixels that
are not valid (nodata, NaN, alpha, mask, beyond the edge) take the mean of the tile's valid ones.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from atalaya_serving.scoring.bands import BandPlan, known_floats, to_bytes
from atalaya_serving.scoring.grid import Chunk, Grid
from atalaya_serving.scoring.masks import PixelBox, Region, open_region
from atalaya_serving.scoring.scene import SceneFile, opened
from atalaya_serving.scoring.views import Sampling, View

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


class Reason(StrEnum):
    """Why a tile was not assessed."""

    NODATA = "nodata"
    MASKED = "masked"
    OUTSIDE = "outside the area"
    UNREADABLE = "unreadable"
    CONSTANT = "constant"
    """All its pixels show the model one value: fill, saturation or a lost band, but nothing to judge."""


@dataclass(frozen=True)
class ReadPlan:
    """All that decides what a tile looks like."""

    scene: SceneFile
    grid: Grid
    bands: BandPlan
    stretch: tuple[float, float] | None
    min_valid_share: float
    area: Path | None
    mask: Path | None


@dataclass(frozen=True)
class ChunkTiles:
    """`pixels` [n, h, w, c] of the tiles to assess at (`row`, `col`); the others with their reason; and the whole
    rectangle, padded to whole tiles, with its valid pixels (None: all) for the overview."""

    pixels: Bytes
    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    refused: dict[Reason, tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]
    image: Bytes
    valid: Flags | None
    chunk: Chunk
    seconds: float
    """Spent reading, for each tile."""

    def without(self, done: Flags) -> Self:
        """Less the tiles that `done` [rows, cols of the grid] names."""
        keep = ~done[self.row, self.col]
        refused = {
            reason: (row[left], col[left])
            for reason, (row, col) in self.refused.items()
            if (left := ~done[row, col]).any()
        }
        if keep.all():  # no copy of the pixels
            return replace(self, refused=refused)
        return replace(self, pixels=self.pixels[keep], row=self.row[keep], col=self.col[keep], refused=refused)


class TileReader:
    """Reads chunks for one thread. A context manager."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self._tile = plan.grid.geometry.tile_px
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            dataset = stack.enter_context(opened(self._plan.scene.path))
            geometry = self._plan.grid.geometry
            self._data = stack.enter_context(_view(dataset, self._plan)) if geometry.warped else dataset
            self._area = self._region(stack, self._plan.area)
            self._mask = self._region(stack, self._plan.mask)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, chunk: Chunk, wanted: Flags | None = None) -> ChunkTiles:
        """Read a rectangle; `wanted` [rows, cols] leaves out tiles that are done already."""
        start = time.perf_counter()
        wanted = np.ones(chunk.shape, bool) if wanted is None else wanted
        unreadable = np.zeros(chunk.shape, bool)
        try:
            image, valid = self._pixels(chunk)
        except RasterioError:
            image, valid = self._piecewise(chunk, unreadable)
        seconds = (time.perf_counter() - start) / max(1, wanted.sum())
        return self._cut(chunk, image, valid, wanted, unreadable, seconds)

    def _region(self, stack: ExitStack, path: Path | None) -> Region | None:
        if path is None:
            return None
        region = open_region(path, self._plan.grid)
        stack.callback(region.close)
        return region

    def _pixels(self, chunk: Chunk) -> tuple[Bytes, Flags | None]:
        """The rectangle's bytes, padded to whole tiles, and which are valid (None: all)."""
        box = self._box(chunk)
        window = Window(box.x, box.y, box.width, box.height)
        plan = self._plan
        data = self._data.read(list(plan.bands.indexes), window=window)
        valid = self._valid(data, window)
        image = to_bytes(data, plan.bands, plan.stretch)
        high, wide = chunk.shape[0] * self._tile, chunk.shape[1] * self._tile
        if (high, wide) == data.shape[1:]:
            return image, valid
        padded = np.zeros((high, wide, image.shape[2]), np.uint8)
        padded[: box.height, : box.width] = image
        inside = np.zeros((high, wide), bool)
        inside[: box.height, : box.width] = True if valid is None else valid
        return padded, inside

    def _valid(self, data: npt.NDArray[Any], window: Window) -> Flags | None:
        """Nodata is compared here, on what is read already; alpha and masks are read only where there are any."""
        scene = self._plan.scene
        valid: Flags | None = None
        if scene.has_mask or self._plan.grid.geometry.warped:
            valid = self._data.dataset_mask(window=window) > 0
        if scene.nodata is not None and not np.isnan(scene.nodata):
            known = (data != scene.nodata).any(axis=0)
            valid = known if valid is None else valid & known
        if data.dtype.kind == "f":
            finite = known_floats(data)
            valid = finite if valid is None else valid & finite
        return None if valid is None or valid.all() else valid

    def _piecewise(self, chunk: Chunk, unreadable: Flags) -> tuple[Bytes, Flags]:
        """Tile by tile, when the whole rectangle cannot be read: what can be read is kept."""
        tile, channels = self._tile, len(self._plan.bands.indexes) if self._plan.bands.mix is None else 1
        image = np.zeros((chunk.shape[0] * tile, chunk.shape[1] * tile, channels), np.uint8)
        valid = np.zeros(image.shape[:2], bool)
        for row, col in np.ndindex(chunk.shape):
            one = Chunk(chunk.row + row, chunk.row + row + 1, chunk.col + col, chunk.col + col + 1)
            at = np.s_[row * tile : (row + 1) * tile, col * tile : (col + 1) * tile]
            try:
                image[at], known = self._pixels(one)
                valid[at] = True if known is None else known
            except RasterioError:
                unreadable[row, col] = True
        return image, valid

    def _cut(
        self, chunk: Chunk, image: Bytes, valid: Flags | None, wanted: Flags, unreadable: Flags, seconds: float
    ) -> ChunkTiles:
        box = self._box(chunk)
        usable = valid
        if self._mask is not None:
            masked = self._mask.inside(box)
            if masked.any():
                usable = np.ones(image.shape[:2], bool) if valid is None else valid.copy()
                usable[: box.height, : box.width] &= ~masked
        refused = self._refused(chunk, valid, usable, unreadable)
        keep = wanted.copy()
        for flags in refused.values():
            keep &= ~flags
        tiles = _as_tiles(image, self._tile)[keep]
        if usable is not None:
            _fill(tiles, _as_tiles(usable[..., None], self._tile)[keep][..., 0])
        constant = _constant(tiles)
        if constant.any():
            flags = np.zeros(chunk.shape, bool)
            flags[keep] = constant
            refused[Reason.CONSTANT], keep, tiles = flags, keep & ~flags, tiles[~constant]
        places = {reason: _places(chunk, flags & wanted) for reason, flags in refused.items() if (flags & wanted).any()}
        row, col = _places(chunk, keep)
        return ChunkTiles(tiles, row, col, places, image, valid, chunk, seconds)

    def _refused(
        self, chunk: Chunk, valid: Flags | None, usable: Flags | None, unreadable: Flags
    ) -> dict[Reason, Flags]:
        """Which tiles are not assessed; each tile is under one reason, the first that holds."""
        least = self._plan.min_valid_share
        found = {Reason.UNREADABLE: unreadable}
        left = ~unreadable
        if self._area is not None:
            box = self._box(chunk)
            inside = np.zeros((chunk.shape[0] * self._tile, chunk.shape[1] * self._tile), bool)
            inside[: box.height, : box.width] = self._area.inside(box)
            found[Reason.OUTSIDE] = left & (self._share(inside) < least)
            left = left & ~found[Reason.OUTSIDE]
        if valid is not None:
            found[Reason.NODATA] = left & _too_few(self._share(valid), least)
            left = left & ~found[Reason.NODATA]
        if usable is not None:
            found[Reason.MASKED] = left & _too_few(self._share(usable), least)
        return found

    def _share(self, flags: Flags) -> npt.NDArray[np.float64]:
        high, wide, tile = flags.shape[0] // self._tile, flags.shape[1] // self._tile, self._tile
        share: npt.NDArray[np.float64] = flags.reshape(high, tile, wide, tile).mean(axis=(1, 3))
        return share

    def _box(self, chunk: Chunk) -> PixelBox:
        grid, tile = self._plan.grid, self._tile
        x, y = chunk.col * tile, chunk.row * tile
        return PixelBox(x, y, min(chunk.col_end * tile, grid.width) - x, min(chunk.row_end * tile, grid.height) - y)


def _too_few(share: npt.NDArray[np.float64], least: float) -> Flags:
    """A tile without any valid pixel has nothing to fill it with, whatever the manifest allows."""
    return np.asarray((share < least) | (share == 0))


def _as_tiles(image: npt.NDArray[Any], tile: int) -> npt.NDArray[Any]:
    """[h, w, c] to a view [rows, cols, tile, tile, c]."""
    high, wide, channels = image.shape
    return image.reshape(high // tile, tile, wide // tile, tile, channels).transpose(0, 2, 1, 3, 4)


def _fill(tiles: Bytes, usable: Flags) -> None:
    for index in np.flatnonzero(~usable.all(axis=(1, 2))):
        known = usable[index]
        tiles[index][~known] = np.rint(tiles[index][known].mean(axis=0)).astype(np.uint8)


def _constant(tiles: Bytes) -> Flags:
    """Which tiles have one value everywhere. A look at the diagonal leaves few to look at in full."""
    along = np.arange(tiles.shape[1])
    diagonal = tiles[:, along, along]
    found: Flags = (diagonal == diagonal[:, :1]).all(axis=(1, 2))
    found[found] = (tiles[found] == tiles[found][:, :1, :1]).all(axis=(1, 2, 3))
    return found


def _places(chunk: Chunk, flags: Flags) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    row, col = np.nonzero(flags)
    return (row + chunk.row).astype(np.int32), (col + chunk.col).astype(np.int32)


def _view(dataset: Any, plan: ReadPlan) -> View:
    """The scene resampled to the grid."""
    scene = plan.scene
    missing = np.nan if scene.nodata is None and scene.dtype.startswith("float") else scene.nodata
    add_alpha = missing is None and "alpha" not in scene.colours
    return View(dataset, plan.grid, plan.grid.turns, Sampling(Resampling.bilinear, missing, add_alpha))
