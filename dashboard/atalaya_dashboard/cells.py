"""Gathers tiles into H3 cells. Pure.

A cell's value is the mean calibrated probability of its assessed tiles: the share of them expected to be damaged.
Tiles that were not assessed are counted beside it and never pull the share down.
"""

from dataclasses import dataclass
from typing import Any

import h3
import numpy as np
from numpy.typing import NDArray

RESOLUTIONS = (8, 9, 10, 11)
DEFAULT_RESOLUTION = 9
FEW_TILES = 5
"""A cell with fewer assessed tiles says too little to be coloured."""

LEGIBLE_CELLS = 4000
"""More of them on a map are each smaller than a finger, and slow without a graphics card."""


@dataclass(frozen=True)
class Cells:
    """Hexagons of one resolution, all arrays over cells except `member`, which maps each tile to its cell."""

    resolution: int
    ids: tuple[str, ...]
    assessed: NDArray[np.int64]
    not_assessed: NDArray[np.int64]
    damaged: NDArray[np.int64]
    share: NDArray[np.float64]
    """Expected share damaged; NaN where nothing was assessed."""
    member: NDArray[np.int64]

    @property
    def few(self) -> NDArray[np.bool_]:
        """Cells with some assessed tiles, but too few."""
        return (self.assessed > 0) & (self.assessed < FEW_TILES)

    @property
    def enough(self) -> NDArray[np.bool_]:
        """Cells whose share may be read."""
        return self.assessed >= FEW_TILES

    def tiles_of(self, cell: str) -> NDArray[np.int64]:
        """The indices of a cell's tiles; none for a cell that is not here."""
        if cell not in self.ids:
            return np.empty(0, dtype=np.int64)
        found: NDArray[np.int64] = np.flatnonzero(self.member == self.ids.index(cell))
        return found


def cells_of(center: NDArray[Any], probability: NDArray[Any], damaged: NDArray[Any], resolution: int) -> Cells:
    """Gather tiles with centres [n, 2] (lon, lat) and probabilities (NaN: not assessed) into cells."""
    names = [h3.latlng_to_cell(lat, lon, resolution) for lon, lat in center.tolist()]
    ids, member = np.unique(np.array(names, dtype="U16"), return_inverse=True)
    assessed_tile = ~np.isnan(probability)
    size = len(ids)
    assessed = np.bincount(member[assessed_tile], minlength=size)
    total = np.bincount(member[assessed_tile], weights=probability[assessed_tile], minlength=size)
    share = np.divide(total, assessed, out=np.full(size, np.nan), where=assessed > 0)
    return Cells(
        resolution=resolution,
        ids=tuple(str(name) for name in ids),
        assessed=assessed,
        not_assessed=np.bincount(member[~assessed_tile], minlength=size),
        damaged=np.bincount(member[np.asarray(damaged, dtype=bool)], minlength=size),
        share=share,
        member=member.astype(np.int64),
    )


def suggested_resolution(tile_count: int, covered_m2: float) -> int:
    """The resolution to open with: the finest whose cells hold enough tiles (9 for tiles of 64 m) and are not so many
    that none can be made out."""
    if tile_count == 0 or covered_m2 <= 0:
        return DEFAULT_RESOLUTION
    tiles_per_m2 = tile_count / covered_m2
    cell_m2 = {r: h3.average_hexagon_area(r, unit="m^2") for r in RESOLUTIONS}
    good = [r for r, m2 in cell_m2.items() if m2 * tiles_per_m2 >= FEW_TILES and covered_m2 / m2 <= LEGIBLE_CELLS]
    return max(good, default=RESOLUTIONS[0])
