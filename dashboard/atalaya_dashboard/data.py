"""Fetches what a map needs from the store and the scenes folder, into frozen values. No page is known here."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_dashboard.errors import PixelsUnavailable
from atalaya_dashboard.grid_image import Corners, Overlay, png_url, states_grid, states_picture
from atalaya_dashboard.placement import Bounds, bounds_near, in_one_piece, middle_of
from atalaya_dashboard.scene_folder import Truth, overview, truth
from atalaya_serving.scoring.counts import Count, count_damaged
from atalaya_serving.store import Assessment, Scene, SceneUnknown, Store, TileState, TileTable
from atalaya_spec.manifest import versions

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
    """One assessment, ready to be shown. Pictures are None where there is nothing to show.

    All longitudes lie in one piece around the scene's middle; see `placement`.
    """

    assessment: Assessment
    scene: Scene | None
    tiles: TileTable
    states: StateCounts
    count: Count
    corners: NDArray[np.float64]
    """Footprints of the tiles [n, 4, 2]: upper left, upper right, lower right, lower left."""
    outline: Corners
    """Of the whole grid: bottom left, top left, top right, bottom right."""
    bounds: Bounds
    tile_size_m: float
    overview: Overlay | None
    hatch: Overlay | None
    states_picture: Overlay | None
    truth: Truth | None

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
    outline = grid_outline(assessment)
    middle = middle_of(np.array(outline)[:, 0])
    corners = in_one_piece(tiles.corners, middle)
    hatch, states = _grid_overlays(assessment, tiles, outline)
    folder = scenes_folder / assessment.scene_digest.removeprefix("sha256:")
    return MapData(
        assessment=assessment,
        scene=scene,
        tiles=tiles,
        states=state_counts(tiles),
        count=count_damaged(tiles.probability, calibration_bootstrap(assessment.manifest)),
        corners=corners,
        outline=outline,
        bounds=_bounds(corners, scene),
        tile_size_m=tile_size_m(assessment.manifest),
        overview=overview(folder, middle),
        hatch=hatch,
        states_picture=states,
        truth=truth(folder, middle) if is_synthetic(assessment) else None,
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


def _grid_overlays(assessment: Assessment, tiles: TileTable, outline: Corners) -> tuple[Overlay | None, Overlay | None]:
    if not len(tiles):
        return None, None
    grid = states_grid(tiles.row, tiles.col, tiles.state, (assessment.grid_rows, assessment.grid_cols))
    hatch = None
    if np.any(tiles.state == TileState.NOT_ASSESSED):
        hatch = Overlay(png_url(states_picture(grid, with_assessed=False)), outline)
    return hatch, Overlay(png_url(states_picture(grid, with_assessed=True)), outline)


def grid_outline(assessment: Assessment) -> Corners:
    """Lon/lat of the whole grid's corners: bottom left, top left, top right, bottom right."""
    last_row, last_col = assessment.grid_rows - 1, assessment.grid_cols - 1
    row, col = np.array([last_row, 0, 0, last_row], np.int32), np.array([0, 0, last_col, last_col], np.int32)
    found = assessment.grid.corners_wgs84(row, col)[np.arange(4), [3, 0, 1, 2]]
    placed = in_one_piece(found, middle_of(found[:, 0]))
    bottom_left, top_left, top_right, bottom_right = ((float(lon), float(lat)) for lon, lat in placed)
    return bottom_left, top_left, top_right, bottom_right


def _bounds(corners: NDArray[np.float64], scene: Scene | None) -> Bounds:
    if len(corners):
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return bounds_near(scene.bounds) if scene is not None else (-180.0, -60.0, 180.0, 60.0)


def pixels_of(data: MapData, row: int, col: int) -> NDArray[np.uint8]:
    """A tile as the model saw it, uint8 [height, width] or [height, width, 3]. Raises ScenePixelsUnavailable."""
    from atalaya_serving.scoring.pixels import tile_pixels  # rasterio: only when a tile is looked at

    if data.scene is None:
        raise PixelsUnavailable("the store does not know the scene's file; assess the scene again.")
    return tile_pixels(data.scene, data.assessment, row, col)
