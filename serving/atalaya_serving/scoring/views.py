"""A raster as the grid sees it: resampled to the grid's pixels.

Where its coordinate system comes round (at 180 degrees in most) one place has two coordinates, a whole turn apart, and
GDAL asks for one of them only. A raster that runs past such a seam is seen through one view for each side of it.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from atalaya_serving.scoring.grid import Grid


@dataclass(frozen=True)
class Sampling:
    """How pixels are found; what marks those that are missing: a value, or else an alpha band that is added."""

    resampling: Resampling
    missing: float | None
    add_alpha: bool


class View:
    """A dataset resampled to a grid; what it does not cover is not valid. `turns` are those of the dataset. A context
    manager for one thread."""

    def __init__(self, dataset: Any, grid: Grid, turns: tuple[float, ...], sampling: Sampling) -> None:
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._sides = [stack.enter_context(_side(dataset, grid, turn, sampling)) for turn in turns]
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, indexes: list[int], window: Window) -> npt.NDArray[Any]:
        """Bands [b, h, w]."""
        first, *others = self._sides
        data: npt.NDArray[Any] = first.read(indexes, window=window)
        for side in others:
            known = side.dataset_mask(window=window) > 0
            if known.any():
                data[:, known] = side.read(indexes, window=window)[:, known]
        return data

    def dataset_mask(self, window: Window) -> npt.NDArray[np.uint8]:
        """255 where a pixel is valid, else 0: [h, w]."""
        masks = [side.dataset_mask(window=window) for side in self._sides]
        return np.asarray(masks[0] if len(masks) == 1 else np.maximum.reduce(masks))


def _side(dataset: Any, grid: Grid, turn: float, sampling: Sampling) -> WarpedVRT:
    place = {"src_crs": dataset.crs, "src_transform": Affine.translation(turn, 0) @ dataset.transform} if turn else {}
    return WarpedVRT(
        dataset,
        crs=grid.geometry.crs,
        transform=Affine(*grid.geometry.transform),
        width=grid.width,
        height=grid.height,
        src_nodata=sampling.missing,
        resampling=sampling.resampling,
        add_alpha=sampling.add_alpha,
        warp_mem_limit=64,
        **place,
    )
