"""One tile as the model saw it, read again from the scene's own file: what the dashboard shows on a click."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atalaya_serving.scoring.bands import plan_bands
from atalaya_serving.scoring.digests import file_digest
from atalaya_serving.scoring.errors import SceneError, ScenePixelsUnavailable
from atalaya_serving.scoring.grid import Chunk, plan_grid
from atalaya_serving.scoring.scene import file_size, open_scene
from atalaya_serving.scoring.tiles import ReadPlan, TileReader
from atalaya_serving.store.records import Assessment, Scene


def tile_pixels(scene: Scene, assessment: Assessment, row: int, col: int) -> npt.NDArray[np.uint8]:
    """The tile at (row, col): uint8 [h, w], or [h, w, 3] for a model of colour.

    An area or a mask whose file has changed since is left out. Raises ScenePixelsUnavailable when the scene's file
    moved, changed or cannot be read.
    """
    path = Path(scene.path)
    try:
        if file_size(path) != scene.size_bytes:
            raise ScenePixelsUnavailable(f"{path} is not the file that was assessed; bring the original back.")
        plan = _plan(path, assessment)
        with TileReader(plan) as reader:
            tiles = reader.read(Chunk(row, row + 1, col, col + 1))
    except (OSError, SceneError) as error:
        raise ScenePixelsUnavailable(
            f"the pixels of {scene.name} are not there ({error}); bring {path} back."
        ) from error
    pixels = tiles.pixels[0] if len(tiles.pixels) else tiles.image
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _plan(path: Path, assessment: Assessment) -> ReadPlan:
    told = assessment.parameters
    file = open_scene(path)
    grid = plan_grid(file.placement, told["tile_size_px"], told["gsd_m"], str(path))
    if grid.geometry.transform != assessment.grid.transform:
        raise ScenePixelsUnavailable(f"{path} was tiled in another way then; assess it again to see its tiles.")
    return ReadPlan(
        scene=file,
        grid=grid,
        bands=plan_bands(file.colours, told["model_bands"], told["bands"], str(path)),
        stretch=assessment.stretch,
        min_valid_share=told["min_valid_share"],
        area=None,
        mask=_same_file(told["mask_path"], told["mask"]),
    )


def _same_file(path: str | None, digest: str | None) -> Path | None:
    if path is None or not Path(path).is_file():
        return None
    return Path(path) if file_digest(Path(path)) == digest else None
