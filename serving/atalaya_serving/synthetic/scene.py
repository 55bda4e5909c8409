"""Scenes and tiles that are nobody's: a procedural town as a GeoTIFF with its truth, and labelled tiles for tests.

Their pixels come from `town`. A scene says that it is synthetic in its file name and in its tags, and lies
in the open sea, so that nobody takes it for a place. A score on it says nothing of real imagery.
"""

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.synthetic.town import Drawn, Town, Window, draw, plan_town

CRS = "EPSG:32618"
GSD_M = 0.5
ORIGIN = (500_000.0, 1_900_000.0)  # easting and northing of the upper left corner, south of Jamaica
TILE_PX = 128
NO_DATA = 0
TAG = {
    "SYNTHETIC": "yes",
    "TIFFTAG_IMAGEDESCRIPTION": "Synthetic: a procedural town. No real place and no real damage.",
}
# About one small house in a tile: less is no damage that a person would mark.
DAMAGED_SHARE = 0.02
_BAND_ROWS = 256


@dataclass(frozen=True)
class TruthTile:
    """What is true of one tile: shares of its area, and whether it counts as damaged. `row` and `col` count tiles."""

    row: int
    col: int
    building_share: float
    destroyed_share: float

    @property
    def damaged(self) -> bool:
        """Whether a person would mark the tile."""
        return self.destroyed_share >= DAMAGED_SHARE


@dataclass(frozen=True)
class SyntheticScene:
    """A scene on disk and what is true of it."""

    path: Path
    truth_path: Path
    truth: tuple[TruthTile, ...]


def scene_paths(folder: Path, seed: int) -> tuple[Path, Path]:
    """The names of a scene and its truth, which say that it is synthetic."""
    return folder / f"synthetic-town-{seed}.tif", folder / f"synthetic-town-{seed}-truth.csv"


def make_scene(folder: Path, seed: int, size: int) -> SyntheticScene:
    """Write a town of `size` × `size` pixels as a tiled 8-bit GeoTIFF, and its truth as CSV; by rename, so never half.

    Clouds hide one corner: there is no data, so that the third state can be seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, truth_path = scene_paths(folder, seed)
    town = plan_town(seed, size)
    drawn = _draw_all(town)
    truth = tuple(_truth(drawn))
    pixels = np.where(_clouds(town), NO_DATA, drawn.pixels).astype(np.uint8)
    _write_scene(pixels, path, seed)
    _write_truth(truth, truth_path)
    return SyntheticScene(path, truth_path, truth)


def read_truth(path: Path) -> tuple[TruthTile, ...]:
    """The truth that `make_scene` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        TruthTile(int(row["row"]), int(row["col"]), float(row["building_share"]), float(row["destroyed_share"]))
        for row in rows
    )


def synthetic_tiles(seed: int, n: int, size: int = TILE_PX) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`n` tiles uint8 [n, size, size] and their labels uint8 [n], 1 = damaged; half of them, alternating.

    The same arguments give the same tiles. No tile shows a border case.
    """
    wanted = {1: (n + 1) // 2, 0: n // 2}
    found: dict[int, list[NDArray[np.uint8]]] = {1: [], 0: []}
    for town_seed in range(seed * 1000, seed * 1000 + 1000):
        for tile, share in _tiles_of(plan_town(town_seed, 8 * size), size):
            label = 1 if share > 5 * DAMAGED_SHARE else 0
            if (share == 0 or label) and len(found[label]) < wanted[label]:
                found[label].append(tile)
        if all(len(found[label]) == wanted[label] for label in wanted):
            break
    labels = np.array([1 - i % 2 for i in range(n)], np.uint8)
    tiles = [found[int(label)][i // 2] for i, label in enumerate(labels)]
    return np.stack(tiles) if tiles else np.empty((0, size, size), np.uint8), labels


def _tiles_of(town: Town, size: int) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Tiles of a town that have houses in them, each with the share of its area that is destroyed."""
    drawn = _draw_all(town)
    for row in range(0, town.size - size + 1, size):
        for col in range(size, town.size - size + 1, size):  # the first column is sea
            at = np.s_[row : row + size, col : col + size]
            if drawn.building[at].mean() > 0.15:
                yield drawn.pixels[at], float(drawn.destroyed[at].mean())


def _draw_all(town: Town) -> Drawn:
    """The whole town, in bands that keep the working memory small; numpy lets two be drawn at once."""
    starts = range(0, town.size, _BAND_ROWS)
    windows = [Window(start, 0, min(_BAND_ROWS, town.size - start), town.size) for start in starts]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        bands = list(pool.map(lambda window: draw(town, window), windows))
    return Drawn(
        np.concatenate([band.pixels for band in bands]),
        np.concatenate([band.building for band in bands]),
        np.concatenate([band.destroyed for band in bands]),
    )


def _truth(drawn: Drawn) -> Iterator[TruthTile]:
    """Every tile of the grid from the upper left corner; one at the edge counts what of it is on the scene."""
    height, width = drawn.pixels.shape
    for row in range(0, height, TILE_PX):
        for col in range(0, width, TILE_PX):
            at = np.s_[row : row + TILE_PX, col : col + TILE_PX]
            building, destroyed = float(drawn.building[at].mean()), float(drawn.destroyed[at].mean())
            yield TruthTile(row // TILE_PX, col // TILE_PX, round(building, 4), round(destroyed, 4))


def _clouds(town: Town) -> NDArray[np.bool_]:
    """What clouds hide in the lower right corner: round lobes of a few sizes."""
    rng = np.random.default_rng([town.seed, 1])
    at = np.arange(town.size, dtype=np.float32)
    hidden = np.zeros((town.size, town.size), bool)
    for _ in range(14):
        from_corner = town.size * rng.triangular(0, 0, 0.24, 2)
        radius = town.size * rng.uniform(0.03, 0.09)
        row, col = town.size - from_corner
        hidden |= (at[:, None] - row) ** 2 + (at - col) ** 2 < radius**2
    return hidden


def _write_scene(pixels: NDArray[np.uint8], path: Path, seed: int) -> None:
    import rasterio  # 0.3 s: not for whoever only wants tiles

    partial = path.with_name(f".{path.name}.partial.tif")
    profile = {
        "driver": "GTiff", "count": 1, "dtype": "uint8", "height": pixels.shape[0], "width": pixels.shape[1],
        "crs": CRS, "transform": rasterio.Affine(GSD_M, 0, ORIGIN[0], 0, -GSD_M, ORIGIN[1]), "nodata": NO_DATA,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "photometric": "minisblack",
        "num_threads": "all_cpus",
    }  # fmt: skip
    with rasterio.open(partial, "w", **profile) as scene:
        scene.write(pixels, 1)
        scene.update_tags(**TAG, SEED=str(seed))
    partial.replace(path)


def _write_truth(truth: tuple[TruthTile, ...], path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("row", "col", "building_share", "destroyed_share", "damaged"))
        for tile in truth:
            out.writerow((tile.row, tile.col, tile.building_share, tile.destroyed_share, int(tile.damaged)))
    partial.replace(path)
