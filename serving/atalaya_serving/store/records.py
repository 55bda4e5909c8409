"""What the store hands out and takes in: plain frozen records and numpy columns, free of SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

AssessmentState = Literal["running", "complete", "failed"]
Affine6 = tuple[float, float, float, float, float, float]


class TileState(IntEnum):
    """The three states of a tile. A tile that was not assessed is never counted as safe."""

    NOT_ASSESSED = 0
    NOT_DAMAGED = 1
    DAMAGED = 2


@dataclass(frozen=True)
class Scene:
    """A raster that was assessed. `digest` is `sha256:` over the file; `crs` is WKT; `transform` is the affine a b c d
    e f from pixel to `crs`.

    `bounds` are west, south, east, north in degrees, in one piece: a scene across the antimeridian has longitudes that
    run past 180 (179.9 to 180.1), so west is always less than east.
    """

    digest: str
    name: str
    path: str
    width: int
    height: int
    crs: str
    transform: Affine6
    bounds: tuple[float, float, float, float]
    created_at: datetime
    size_bytes: int = 0

    @property
    def folder_name(self) -> str:
        """The folder below ATALAYA_SCENES that holds the scene's pixels for the dashboard."""
        return self.digest.removeprefix("sha256:")


def near(lon: npt.NDArray[np.float64], other: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64]:
    """Longitudes by whole turns brought within 180 degrees of others."""
    turned: npt.NDArray[np.float64] = lon + 360 * np.round((other - lon) / 360)
    return turned


@dataclass(frozen=True)
class GridGeometry:
    """Where the tiles lie: tile (row, col) covers `tile_px` pixels a side of the raster that `transform` places in
    `crs`. `warped` tells that this raster is a resampled view, not the scene's own pixels. `meridian` is where degrees
    are told around: 0, or 180 for a grid that lies across the antimeridian."""

    crs: str
    transform: Affine6
    tile_px: int
    warped: bool
    meridian: float = 0.0

    def corners(self, row: npt.NDArray[np.int32], col: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Corners of tiles in `crs`: float64 [n, 4, 2], upper left, upper right, lower right, lower left."""
        a, b, c, d, e, f = self.transform
        px = (col[:, None] + np.array([0, 1, 1, 0])) * float(self.tile_px)
        py = (row[:, None] + np.array([0, 0, 1, 1])) * float(self.tile_px)
        return np.stack([a * px + b * py + c, d * px + e * py + f], axis=-1)

    def corners_wgs84(self, row: npt.NDArray[np.int32], col: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """The same corners as longitude and latitude in degrees. A tile is never torn: across the antimeridian its
        longitudes run past 180, and so do those of all tiles east of it in the same grid."""
        corners = self.corners(row, col)
        to_wgs84 = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        lon, lat = to_wgs84.transform(corners[..., 0], corners[..., 1])
        lon = near(lon, lon[:, :1])
        lon += near(lon[:, :1], self.meridian) - lon[:, :1]
        return np.stack([lon, lat], axis=-1)


@dataclass(frozen=True)
class Environment:
    """Where and how answers were made: the engine, the protocol and the machine that asked."""

    engine: str
    engine_version: str
    precision: str
    protocol: str
    processor: str
    physical_cores: int
    logical_cores: int
    memory_bytes: int
    os: str
    os_version: str
    container: bool
    cloud: str
    """The provider's name, or "" when the machine shows no sign of one."""


@dataclass(frozen=True)
class Assessment:
    """One scene under one model with one set of parameters; equal inputs give an equal `id`. `warnings` are sentences
    about the scene, the area or the mask that whoever reads the map should know."""

    id: str
    scene_digest: str
    scene_name: str
    model: str
    version: int
    model_digest: str
    manifest: Mapping[str, Any]
    parameters: Mapping[str, Any]
    stretch: tuple[float, float] | None
    grid: GridGeometry
    grid_rows: int
    grid_cols: int
    state: AssessmentState
    message: str
    created_at: datetime
    finished_at: datetime | None
    tiles_total: int
    tiles_done: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TileRows:
    """A batch of answers on its way into the store; every array has one entry a tile. `reason` is one for all."""

    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    state: npt.NDArray[np.uint8]
    reason: str
    probability: npt.NDArray[np.float64]
    inference_seconds: float
    total_seconds: float
    created_at: datetime

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class TileTable:
    """All tiles of an assessment that are done, by row and column. `probability` and times are NaN where not assessed.

    `corners` is float64 [n, 4, 2] in degrees: upper left, upper right, lower right, lower left. They and `center` lie
    in one piece for a map to draw: in a grid across the antimeridian longitudes run past 180 (179.9 to 180.1). Wrap
    them for what wants -180 to 180, as H3 cells do.
    """

    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    state: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.str_]
    probability: npt.NDArray[np.float64]
    inference_seconds: npt.NDArray[np.float64]
    total_seconds: npt.NDArray[np.float64]
    environment: npt.NDArray[np.int32]
    created_at: npt.NDArray[np.datetime64]
    grid: GridGeometry

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def corners(self) -> npt.NDArray[np.float64]:
        """Footprints in degrees; made on first use."""
        return self.grid.corners_wgs84(self.row, self.col)

    @cached_property
    def center(self) -> npt.NDArray[np.float64]:
        """Centres in degrees, float64 [n, 2]: longitude, latitude."""
        mean: npt.NDArray[np.float64] = self.corners.mean(axis=1)
        return mean
