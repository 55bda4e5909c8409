"""What the analyst clicked, from the state that Streamlit hands back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_dashboard.cells import Cells
from atalaya_dashboard.deck import CELLS, TILES
from atalaya_serving.store import TileTable


@dataclass(frozen=True)
class Clicked:
    """A cell by its H3 name with the tiles in it, or (cell empty) one tile. `tiles` are indices into the table."""

    cell: str
    tiles: NDArray[np.int64]


def clicked(state: object, tiles: TileTable, cells: Cells, mode: str) -> Clicked | None:
    """What is clicked now; None for nothing, or for what this view no longer shows."""
    objects = _objects(state)
    if mode == "heat" and objects.get(CELLS):
        name = str(objects[CELLS][0].get("id", ""))
        members = cells.tiles_of(name)
        return Clicked(name, members) if len(members) else None
    if mode == "tiles" and objects.get(TILES):
        first = objects[TILES][0]
        found = np.flatnonzero((tiles.row == first.get("r", -1)) & (tiles.col == first.get("k", -1)))
        return Clicked("", found) if len(found) else None
    return None


def _objects(state: object) -> Mapping[str, list[dict[str, Any]]]:
    if not isinstance(state, Mapping):
        return {}
    selection = state.get("selection")
    objects = selection.get("objects") if isinstance(selection, Mapping) else None
    return objects if isinstance(objects, Mapping) else {}
