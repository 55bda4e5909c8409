"""How a model did on a synthetic scene, against the scene's own truth. Pure; it says nothing of real imagery."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.store import TileState, TileTable
from atalaya_serving.synthetic.scene import TruthTile


@dataclass(frozen=True)
class SyntheticScore:
    """Over the tiles that were assessed. `auroc` is nan when only one class is there."""

    tiles: int
    damaged: int
    accuracy: float
    auroc: float

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.3f}, AUROC {self.auroc:.3f} over {self.tiles:,} assessed tiles, "
            f"{self.damaged:,} of them damaged in truth"
        )


def score_synthetic(tiles: TileTable, truth: Iterable[TruthTile]) -> SyntheticScore:
    """Compare each assessed tile with the truth of its row and column."""
    damaged_at = {(tile.row, tile.col): tile.damaged for tile in truth}
    assessed = np.asarray(tiles.state) != TileState.NOT_ASSESSED
    rows, cols = np.asarray(tiles.row)[assessed].tolist(), np.asarray(tiles.col)[assessed].tolist()
    damaged = np.array([damaged_at[at] for at in zip(rows, cols, strict=True)], bool)
    said = np.asarray(tiles.state)[assessed] == TileState.DAMAGED
    accuracy = float((said == damaged).mean()) if damaged.size else float("nan")
    probability = np.asarray(tiles.probability)[assessed]
    return SyntheticScore(damaged.size, int(damaged.sum()), accuracy, auroc(probability, damaged))


def auroc(probability: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive is ranked above a negative, ties counting half (Mann-Whitney)."""
    many, few = probability[positive], np.sort(probability[~positive])
    if not many.size or not few.size:
        return float("nan")
    below, up_to = np.searchsorted(few, many, "left"), np.searchsorted(few, many, "right")
    return float((below + up_to).mean() / 2 / few.size)
