"""What a scene must be for a model's tiles to make sense of it. A transform in the wrong unit gives pixels of
kilometres or nanometres; each is refused with the fact, before any work.
"""

from pyproj.exceptions import ProjError

from atalaya_serving.scoring.errors import SceneUnfit
from atalaya_serving.scoring.grid import Grid, Placement, ground_sides

_COARSEST_PIXELS_A_TILE = 8
# Below, one block of the resampled view would ask for gigabytes of the scene at once.
_FINEST_SHARE = 1 / 64
_MOST_TILES = 10_000_000
_CHECK = "check its transform and the unit of its coordinate reference system (gdalinfo)"


def refuse_pixels(scene: Placement, tile_px: int, gsd_m: float, name: str) -> None:
    """Raise SceneUnfit for pixels from which no tile could be made; leave a scene that lies nowhere to `plan_grid`."""
    try:
        width, height = ground_sides(scene)
    except ProjError:
        return
    told = f"{name} has pixels of {_metres(width)} x {_metres(height)} on the ground"
    coarsest, finest = tile_px * gsd_m / _COARSEST_PIXELS_A_TILE, gsd_m * _FINEST_SHARE
    if max(width, height) > coarsest:
        raise SceneUnfit(
            f"{told}, and a tile is {_metres(tile_px * gsd_m)} wide: with fewer than {_COARSEST_PIXELS_A_TILE} pixels "
            f"across it shows nothing; give a scene of {_metres(coarsest)} or finer, or {_CHECK}."
        )
    if min(width, height) < finest:
        raise SceneUnfit(
            f"{told}, and the model knows {_metres(gsd_m)}; resample it first (gdalwarp -tr {gsd_m:g} {gsd_m:g} -r "
            f"average), or {_CHECK}."
        )


def refuse_extent(scene: Placement, grid: Grid, gsd_m: float, least_share: float, name: str) -> None:
    """Raise SceneUnfit for a scene too small to fill a tile, or of more tiles than are good for one assessment."""
    width, height = ground_sides(scene)
    side = grid.geometry.tile_px * gsd_m
    across, down = width * scene.width, height * scene.height
    if across * down < least_share * side * side:
        raise SceneUnfit(
            f"{name} is {_metres(across)} x {_metres(down)} on the ground, too small for one tile of {_metres(side)} "
            f"({least_share:.0%} of it must be filled); give a larger scene, or {_CHECK}."
        )
    if grid.tiles > _MOST_TILES:
        raise SceneUnfit(
            f"{name} would be {grid.tiles:,} tiles, more than {_MOST_TILES:,}; cut it into parts (gdal_translate "
            "-srcwin) and assess these, or " + _CHECK + "."
        )


def _metres(value: float) -> str:
    return f"{value:,.0f} m" if value >= 100 else f"{value:.3g} m"
