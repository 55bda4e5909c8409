"""Fetches what a map needs from the store and the scenes folder, into frozen values. No page is known here."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atalaya_dashboard.errors import PixelsUnavailable
from atalaya_dashboard.grid_image import Corner, Overlay, png_url, states_grid, states_picture, webp_url
from atalaya_serving.scoring.counts import Count, count_damaged
from atalaya_serving.store import Assessment, Scene, SceneUnknown, Store, TileState, TileTable
from atalaya_spec.manifest import versions

OVERVIEW_SIDE_PX = 2048
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class StateCounts:
    """How many tiles are in each state, and why the rest was not assessed, most frequent reason first."""

    damaged: int
    not_damaged: int
    not_assessed: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def assessed(self) -> int:
        """Tiles with an answer."""
        return self.damaged + self.not_damaged


@dataclass(frozen=True)
class MapData:
    """One assessment, ready to be shown. Pictures are None where there is nothing to show."""

    assessment: Assessment
    scene: Scene | None
    tiles: TileTable
    states: StateCounts
    count: Count
    bounds: tuple[float, float, float, float]
    tile_size_m: float
    overview: Overlay | None
    hatch: Overlay | None
    states_picture: Overlay | None

    @property
    def synthetic(self) -> bool:
        """Whether a program made the scene."""
        return is_synthetic(self.assessment)

    @property
    def assessed_km2(self) -> float:
        """The ground that was assessed."""
        return self.states.assessed * self.tile_size_m**2 / 1e6


def load_map(store: Store, assessment_id: str, scenes_folder: Path) -> MapData:
    """Read all of one assessment. Raises AssessmentUnknown, StoreError."""
    assessment = store.assessment(assessment_id)
    tiles = store.tiles(assessment_id)
    scene = _scene(store, assessment.scene_digest)
    hatch, states = _grid_overlays(assessment, tiles)
    return MapData(
        assessment=assessment,
        scene=scene,
        tiles=tiles,
        states=state_counts(tiles),
        count=count_damaged(tiles.probability, calibration_bootstrap(assessment.manifest)),
        bounds=_bounds(tiles, scene),
        tile_size_m=tile_size_m(assessment.manifest),
        overview=overview(scenes_folder / assessment.scene_digest.removeprefix("sha256:")),
        hatch=hatch,
        states_picture=states,
    )


def is_synthetic(assessment: Assessment) -> bool:
    """Whether the scene was made by a program. Such a scene is labelled wherever it is shown."""
    told = assessment.parameters.get(SYNTHETIC)
    return bool(told) or assessment.scene_name.startswith(f"{SYNTHETIC}-")


def state_counts(tiles: TileTable) -> StateCounts:
    """Count the states and the reasons."""
    counted = np.bincount(tiles.state, minlength=3)
    reasons = Counter(tiles.reason[tiles.state == TileState.NOT_ASSESSED].tolist())
    return StateCounts(
        damaged=int(counted[TileState.DAMAGED]),
        not_damaged=int(counted[TileState.NOT_DAMAGED]),
        not_assessed=int(counted[TileState.NOT_ASSESSED]),
        reasons=tuple(reasons.most_common()),
    )


def calibration_bootstrap(manifest: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """The manifest's (slopes, intercepts), or None: the interval then has no part for the calibration."""
    calibration = manifest.get("calibration") or {}
    bootstrap = calibration.get("bootstrap") or {}
    slopes, intercepts = bootstrap.get("slopes") or [], bootstrap.get("intercepts") or []
    return (slopes, intercepts) if slopes and len(slopes) == len(intercepts) else None


def tile_size_m(manifest: Mapping[str, Any]) -> float:
    """The side of a tile on the ground; 0 when the manifest does not tell."""
    given = manifest.get("input") or {}
    return float(given.get("tileSize", 0)) * float(given.get("gsd", 0))


def overview(folder: Path) -> Overlay | None:
    """The scene's picture, made small enough to travel inside the map; None when there is none or it is broken."""
    try:
        told = json.loads((folder / "overview.json").read_text(encoding="utf-8"))
        west, south, east, north = (float(value) for value in told["bounds"])
        with Image.open(folder / "overview.png") as picture:
            url = webp_url(picture, OVERVIEW_SIDE_PX)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Overlay(url, ((west, south), (west, north), (east, north), (east, south)))


def models(repository: Path) -> list[str]:
    """The names of the models that have a version in the repository."""
    if not repository.is_dir():
        return []
    return sorted(child.name for child in repository.iterdir() if child.is_dir() and versions(child))


def _scene(store: Store, digest: str) -> Scene | None:
    try:
        return store.scene(digest)
    except SceneUnknown:
        return None


def _grid_overlays(assessment: Assessment, tiles: TileTable) -> tuple[Overlay | None, Overlay | None]:
    if not len(tiles):
        return None, None
    corners = grid_corners(assessment)
    grid = states_grid(tiles.row, tiles.col, tiles.state, (assessment.grid_rows, assessment.grid_cols))
    hatch = None
    if np.any(tiles.state == TileState.NOT_ASSESSED):
        hatch = Overlay(png_url(states_picture(grid, with_assessed=False)), corners)
    return hatch, Overlay(png_url(states_picture(grid, with_assessed=True)), corners)


def grid_corners(assessment: Assessment) -> tuple[Corner, Corner, Corner, Corner]:
    """Lon/lat of the whole grid: bottom left, top left, top right, bottom right."""
    last_row, last_col = assessment.grid_rows - 1, assessment.grid_cols - 1
    row, col = np.array([last_row, 0, 0, last_row], np.int32), np.array([0, 0, last_col, last_col], np.int32)
    corners = assessment.grid.corners_wgs84(row, col)
    bottom_left, top_left, top_right, bottom_right = (
        (float(corners[tile, corner, 0]), float(corners[tile, corner, 1])) for tile, corner in enumerate((3, 0, 1, 2))
    )
    return bottom_left, top_left, top_right, bottom_right


def _bounds(tiles: TileTable, scene: Scene | None) -> tuple[float, float, float, float]:
    if len(tiles):
        low, high = tiles.corners.min(axis=(0, 1)), tiles.corners.max(axis=(0, 1))
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return scene.bounds if scene is not None else (-180.0, -60.0, 180.0, 60.0)


def pixels_of(data: MapData, row: int, col: int) -> NDArray[np.uint8]:
    """A tile as the model saw it, uint8 [height, width] or [height, width, 3]. Raises ScenePixelsUnavailable."""
    from atalaya_serving.scoring.pixels import tile_pixels  # rasterio: only when a tile is looked at

    if data.scene is None:
        raise PixelsUnavailable("the store does not know the scene's file; assess the scene again.")
    return tile_pixels(data.scene, data.assessment, row, col)
