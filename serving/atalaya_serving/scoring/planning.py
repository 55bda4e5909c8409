"""From a request to a plan: what is read, what the rows will be called, and what a person should be warned of.

The plan's `parameters` hold every choice that changes an answer; with the digests of scene and model they are the
identity of the assessment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atalaya_serving.scoring.bands import plan_bands
from atalaya_serving.scoring.digests import assessment_id, file_digest
from atalaya_serving.scoring.errors import AreaUnreadable, SceneUnreadable
from atalaya_serving.scoring.grid import Grid, bounds_wgs84, plan_grid
from atalaya_serving.scoring.limits import refuse_extent, refuse_pixels
from atalaya_serving.scoring.regions import check_area, check_mask
from atalaya_serving.scoring.scene import SceneFile, file_size, open_scene, sidecar_warnings
from atalaya_serving.scoring.tiles import ReadPlan
from atalaya_serving.scoring.values import plan_stretch, sample, value_warnings
from atalaya_serving.store.records import Assessment, Scene
from atalaya_spec.manifest import Manifest

_COARSER = 1.02


@dataclass(frozen=True)
class SceneChoice:
    """A scene and how it is to be looked at."""

    path: Path
    area: Path | None = None
    mask: Path | None = None
    scale: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """What is read, under which parameters, and what to tell."""

    read: ReadPlan
    parameters: Mapping[str, Any]
    warnings: tuple[str, ...]


def plan_scene(choice: SceneChoice, manifest: Manifest) -> Plan:
    """Look at the scene's header and a sample of its pixels. Raises SceneError, AreaUnreadable, AreaMissesScene."""
    scene = open_scene(choice.path)
    told = manifest.input
    bands = plan_bands(scene.colours, told.bands, choice.bands, str(scene.path))
    grid = _grid(scene, manifest)
    warnings = [bands.warning] if bands.warning else []
    warnings += sidecar_warnings(scene.path)
    if choice.area is not None:
        warnings += check_area(choice.area, scene, grid, manifest.output.min_valid_share)
    if choice.mask is not None:
        warnings += check_mask(choice.mask, scene, grid)
    values = sample(scene, bands)
    stretch = plan_stretch(scene, values, told.stretch_percentiles, choice.scale)
    warnings += value_warnings(scene, values)
    if grid.source_gsd_m > told.gsd_m * _COARSER and grid.geometry.warped:
        warnings.append(
            f"{scene.path} has {grid.source_gsd_m:.2f} m a pixel and {manifest.name} was trained on {told.gsd_m:g} m: "
            "detail that it looks for is not in the scene; take its answers with care"
        )
    read = ReadPlan(scene, grid, bands, stretch, manifest.output.min_valid_share, choice.area, choice.mask)
    return Plan(read, parameters(choice, manifest), tuple(warnings))


def _grid(scene: SceneFile, manifest: Manifest) -> Grid:
    told, name = manifest.input, str(scene.path)
    refuse_pixels(scene.placement, told.tile_size_px, told.gsd_m, name)
    grid = plan_grid(scene.placement, told.tile_size_px, told.gsd_m, name)
    refuse_extent(scene.placement, grid, told.gsd_m, manifest.output.min_valid_share, name)
    return grid


def parameters(choice: SceneChoice, manifest: Manifest) -> dict[str, Any]:
    """Every parameter that changes an answer, besides the scene and the model themselves."""
    given, made = manifest.input, manifest.output
    return {
        "tile_size_px": given.tile_size_px,
        "gsd_m": given.gsd_m,
        "model_bands": list(given.bands),
        "value_range": list(given.value_range),
        "stretch_percentiles": list(given.stretch_percentiles),
        "threshold": made.threshold,
        "min_valid_share": made.min_valid_share,
        "scale": None if choice.scale is None else [float(value) for value in choice.scale],
        "bands": None if choice.bands is None else list(choice.bands),
        "area": _region_digest(choice.area),
        "mask": _region_digest(choice.mask),
    }


def scene_record(scene: SceneFile, digest: str, meridian: float) -> Scene:
    """The scene as the store keeps it, its bounds around the meridian of its grid."""
    return Scene(
        digest=digest,
        name=scene.name,
        path=str(scene.path.resolve()),
        width=scene.placement.width,
        height=scene.placement.height,
        crs=scene.placement.crs,
        transform=scene.transform,
        bounds=bounds_wgs84(scene.placement, meridian),
        created_at=datetime.now(UTC),
        size_bytes=file_size(scene.path),
    )


def assessment_record(choice: SceneChoice, plan: Plan, manifest: Manifest, scene: Scene) -> Assessment:
    """A new assessment as the store keeps it. The paths of area and mask are kept beside, for looking at tiles."""
    grid = plan.read.grid
    paths = {"area_path": choice.area, "mask_path": choice.mask}
    return Assessment(
        id=assessment_id(scene.digest, manifest.digest, plan.parameters),
        scene_digest=scene.digest,
        scene_name=scene.name,
        model=manifest.name,
        version=manifest.version,
        model_digest=manifest.digest,
        manifest=manifest.raw,
        parameters={**plan.parameters, **{name: str(path.resolve()) if path else None for name, path in paths.items()}},
        stretch=plan.read.stretch,
        grid=grid.geometry,
        grid_rows=grid.rows,
        grid_cols=grid.cols,
        state="running",
        message="",
        created_at=datetime.now(UTC),
        finished_at=None,
        tiles_total=grid.tiles,
        tiles_done=0,
        warnings=plan.warnings,
    )


def _region_digest(path: Path | None) -> str | None:
    """The digest of an area or mask file; of a shapefile, its .shp."""
    if path is None:
        return None
    try:
        return file_digest(path)
    except SceneUnreadable as error:
        raise AreaUnreadable(str(error)) from error
