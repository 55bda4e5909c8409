"""Opens a GeoTIFF and says, before any work starts, whether it can be assessed.

Only TIFF is opened, never another format that GDAL knows: a VRT could name other files or addresses.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from atalaya_serving.scoring.bands import refuse_dtype
from atalaya_serving.scoring.errors import SceneUnmappable, SceneUnplaced, SceneUnreadable
from atalaya_serving.scoring.grid import Placement
from atalaya_serving.store.records import Affine6

# A dataset without georeference is refused in words; once a process, because filters are not thread-safe.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Blocks are read once, in file order, so a large cache would only hold memory.
GDAL_OPTIONS = {"GDAL_CACHEMAX": 128 << 20, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


@dataclass(frozen=True)
class SceneFile:
    """What a scene's header tells. `colours` are colour interpretations by band; `block` is height, width."""

    path: Path
    placement: Placement
    colours: tuple[str, ...]
    dtype: str
    block: tuple[int, int]
    nodata: float | None
    has_mask: bool
    """Whether validity lies in an alpha band or an internal mask."""
    has_overviews: bool

    @property
    def name(self) -> str:
        """What people call the scene: its file name without the suffix."""
        return self.path.stem

    @property
    def transform(self) -> Affine6:
        """Pixel to coordinates: a b c d e f."""
        return self.placement.transform


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A rasterio dataset of a TIFF, one handle for one thread. Raises SceneUnreadable."""
    _refuse_what_is_no_tiff(path)
    with rasterio.Env(**GDAL_OPTIONS):
        try:
            dataset = rasterio.open(path, driver="GTiff")
        except RasterioError as error:
            told = " ".join(str(error).split())
            raise SceneUnreadable(
                f"{path} cannot be opened as a GeoTIFF ({told}): it is damaged or cut short; copy or download it again."
            ) from error
        with dataset:
            yield dataset


def open_scene(path: Path) -> SceneFile:
    """Read the header and refuse what cannot be assessed. Raises SceneError."""
    with opened(path) as dataset:
        if dataset.width < 1 or dataset.height < 1:
            raise SceneUnreadable(f"{path} has no pixels ({dataset.width} x {dataset.height}); check the file.")
        _refuse_unplaced(dataset, path)
        dtypes = set(dataset.dtypes)
        for dtype in dtypes:
            refuse_dtype(dtype, str(path))
        if len(dtypes) > 1:
            raise SceneUnmappable(f"{path} mixes data types ({', '.join(sorted(dtypes))}); make one image of one type.")
        _refuse_inverted(dataset, path)
        _refuse_cut_short(dataset, path)
        flags = {flag for band in dataset.mask_flag_enums for flag in band}
        return SceneFile(
            path=path,
            placement=Placement(dataset.width, dataset.height, dataset.crs.to_wkt(), tuple(dataset.transform)[:6]),
            colours=tuple(colour.name for colour in dataset.colorinterp),
            dtype=dataset.dtypes[0],
            block=dataset.block_shapes[0],
            nodata=dataset.nodata,
            has_mask=bool(flags & {MaskFlags.alpha, MaskFlags.per_dataset}) or ColorInterp.alpha in dataset.colorinterp,
            has_overviews=bool(dataset.overviews(1)),
        )


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    try:
        with path.open("rb") as file:
            return file.read(4) in _MAGIC
    except OSError:
        return False


def _refuse_what_is_no_tiff(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SceneUnreadable(
            f"{path} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    if not magic:
        raise SceneUnreadable(f"{path} is empty; copy or download it again.")
    if magic not in _MAGIC:
        raise SceneUnreadable(f"{path} is not a TIFF; give a GeoTIFF (gdal_translate makes one of most formats).")


def _refuse_unplaced(dataset: Any, path: Path) -> None:
    if dataset.crs is None and dataset.gcps[0]:
        raise SceneUnplaced(f"{path} has no georeference but ground control points; warp it first (gdalwarp).")
    if dataset.crs is None:
        raise SceneUnplaced(
            f"{path} has no coordinate reference system; name it with gdal_edit.py -a_srs EPSG:CODE, or give the "
            "georeferenced original."
        )
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    if (a, b, d, e) in {(1, 0, 0, 1), (1, 0, 0, -1)} and (c, f) == (0, 0):
        raise SceneUnplaced(
            f"{path} has no georeference (its transform is the identity); give the georeferenced original, or warp it "
            "(gdalwarp)."
        )
    if not np.isfinite([a, b, c, d, e, f]).all() or a * e == b * d:
        raise SceneUnplaced(f"{path} has a transform that places no pixel ({a}, {b}, {d}, {e}); georeference it again.")


def _refuse_inverted(dataset: Any, path: Path) -> None:
    """GDAL hands out such values as they are stored: as a negative."""
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        raise SceneUnmappable(
            f"{path} stores white as 0 (MINISWHITE), a negative to the model; turn it round first (gdal_translate "
            "-co PHOTOMETRIC=MINISBLACK -scale 0 255 255 0, for 8-bit)."
        )


def sidecar_warnings(path: Path) -> list[str]:
    """A mask in a file of its own is not read: a scene is one file, and known by its content."""
    mask = path.with_name(f"{path.name}.msk")
    if not mask.exists():
        return []
    return [f"{mask} is not read, so what it marks as missing is taken for ground; put the mask into {path.name}"]


def _refuse_cut_short(dataset: Any, path: Path) -> None:
    """A block that ends beyond the file's end means a download or copy that broke off."""
    size = path.stat().st_size
    bands = range(1, dataset.count + 1) if dataset.interleaving == Interleaving.band else (1,)
    high, wide = dataset.block_shapes[0]
    for band in bands:
        for row in range(-(-dataset.height // high)):
            for col in range(-(-dataset.width // wide)):
                start = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", band)
                if start is None:
                    continue
                length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", band) or 0
                end = int(start) + int(length)
                if end > size:
                    raise SceneUnreadable(
                        f"{path} is cut short: it has {size:,} bytes and its pixels reach to {end:,}; copy or download "
                        "it again."
                    )


def file_size(path: Path) -> int:
    """Bytes of a scene, for its record."""
    return os.stat(path).st_size  # noqa: PTH116
