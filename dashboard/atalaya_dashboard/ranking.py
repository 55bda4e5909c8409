"""Where to look first: the cells or tiles with the most expected damage, so that nobody compares colours. Pure."""

import numpy as np
from numpy.typing import NDArray

from atalaya_dashboard.cells import Cells
from atalaya_serving.store import TileTable

SHOWN = 5
LEAST_SHARE = 0.10
"""Below this a cell does not stand out from what a calibrated model gives to intact places."""


def worst_cells(cells: Cells) -> tuple[str, ...]:
    """The cells with enough tiles and the highest share, worst first; none when no share stands out."""
    share = np.where(cells.enough, np.nan_to_num(cells.share), 0.0)
    order = np.lexsort((-cells.assessed, -share))[:SHOWN]
    return tuple(cells.ids[index] for index in order if share[index] >= LEAST_SHARE)


def worst_tiles(tiles: TileTable) -> tuple[int, ...]:
    """The indices of the tiles above the model's threshold with the highest probability, worst first."""
    members = np.flatnonzero(tiles.state == 2)
    return tuple(int(index) for index in most_damaged_first(tiles, members)[:SHOWN])


def most_damaged_first(tiles: TileTable, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order tiles by probability, those that were not assessed last."""
    probability = np.nan_to_num(tiles.probability[members], nan=-1.0)
    ordered: NDArray[np.int64] = members[np.argsort(-probability, kind="stable")]
    return ordered
