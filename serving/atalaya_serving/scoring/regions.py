"""Judges area and mask against the scene before any work: one that misses it would give an empty map without a word."""

from pathlib import Path

from atalaya_serving.scoring.errors import AreaMissesScene
from atalaya_serving.scoring.grid import Grid, bounds_wgs84
from atalaya_serving.scoring.masks import Fit, PixelBox, Region, open_region
from atalaya_serving.scoring.polygons import Extent
from atalaya_serving.scoring.scene import SceneFile

_NOTABLE_SHARE = 0.01
_TILES_AT_ONCE = 16


def check_area(path: Path, scene: SceneFile, grid: Grid, least_share: float) -> list[str]:
    """Warnings about an area. Raises AreaMissesScene when no tile can lie in it, AreaUnreadable."""
    region = open_region(path, grid)
    try:
        fit = region.fit
        if fit.touched is None:
            raise AreaMissesScene(f"{path} does not touch {scene.path}: {_places(fit, scene, grid)}.")
        if not _holds_a_tile(region, fit.touched, grid, least_share):
            side = grid.geometry.tile_px
            raise AreaMissesScene(
                f"no tile of {scene.path} lies {least_share:.0%} inside {path}, which is too small or too narrow for "
                f"tiles of {side} x {side} pixels; draw it larger. For reference, {_places(fit, scene, grid)}."
            )
    finally:
        region.close()
    warnings = [fit.mended] if fit.mended else []
    if fit.outside > _NOTABLE_SHARE:
        warnings.append(f"{fit.outside:.0%} of {path} lies outside {scene.path}: nothing is known there")
    return warnings


def check_mask(path: Path, scene: SceneFile, grid: Grid) -> list[str]:
    """Warnings about a mask. Raises AreaUnreadable."""
    region = open_region(path, grid)
    fit = region.fit
    region.close()
    warnings = [fit.mended] if fit.mended else []
    if fit.touched is None:
        warnings.append(f"{path} masks nothing of {scene.path}: {_places(fit, scene, grid)}")
    elif fit.covered < 1 - _NOTABLE_SHARE:
        warnings.append(f"{path} covers {fit.covered:.0%} of {scene.path}: beyond it nothing is masked")
    return warnings


def _holds_a_tile(region: Region, touched: PixelBox, grid: Grid, least: float) -> bool:
    tile = grid.geometry.tile_px
    step = _TILES_AT_ONCE * tile
    for y in range(touched.y // tile * tile, touched.y + touched.height, step):
        for x in range(touched.x // tile * tile, touched.x + touched.width, step):
            box = PixelBox(x, y, min(step, grid.width - x), min(step, grid.height - y))
            if _any_tile(region, box, tile, least):
                return True
    return False


def _any_tile(region: Region, box: PixelBox, tile: int, least: float) -> bool:
    inside = region.inside(box)
    return any(
        inside[y : y + tile, x : x + tile].sum() >= max(1, least * tile * tile)
        for y in range(0, box.height, tile)
        for x in range(0, box.width, tile)
    )


def _places(fit: Fit, scene: SceneFile, grid: Grid) -> str:
    """Where both lie, and what is probably wrong."""
    place = bounds_wgs84(scene.placement, grid.geometry.meridian)
    told = f"it lies at {_words(fit.extent)}, the scene at {_words(place)}"
    west, south, east, north = fit.extent
    if _overlap((south, west, north, east), place):
        return f"{told}; its latitude and longitude look swapped"
    if _overlap(fit.extent, place):
        return told
    return f"{told}; give the one that belongs to the scene, or check its coordinate reference system"


def _words(extent: Extent) -> str:
    west, south, east, north = extent
    return f"longitude {west:.5g} to {east:.5g}, latitude {south:.5g} to {north:.5g}"


def _overlap(one: Extent, other: Extent) -> bool:
    apart = one[0] > other[2] or other[0] > one[2] or one[1] > other[3] or other[1] > one[3]
    return not apart
