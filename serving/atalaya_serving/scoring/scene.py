"""Opens a GeoTIFF and says, before any work starts, whether it can be assessed; samples it for the stretch.

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
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from atalaya_serving.scoring.bands import BandPlan, grey, looks_like_labels, refuse_dtype, stretch_between
from atalaya_serving.scoring.errors import SceneUnmappable, SceneUnplaced, SceneUnreadable
from atalaya_serving.scoring.grid import Placement
from atalaya_serving.store.records import Affine6

# A dataset without georeference is refused in words; once a process, because filters are not thread-safe.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SAMPLE_SIDE = 1024
_SMALL_PIXELS = 4096**2
_STRETCH_WINDOWS, _CLASS_WINDOWS = 12, 4
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


def plan_stretch(
    scene: SceneFile, bands: BandPlan, percentiles: tuple[float, float], given: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The stretch of a scene: what was given; None for 8-bit; else between percentiles of a sample.

    Raises SceneUnmappable for a map of classes or a scene without a valid pixel.
    """
    if given is not None:
        return given
    with opened(scene.path) as dataset:
        values = _sample(dataset, scene, bands)
    if len(bands.indexes) == 1 and looks_like_labels(values):
        raise SceneUnmappable(
            f"{scene.path} looks like a map of classes (one band, values {values.min()} to {values.max()}), not an "
            "image; if it is one, say its range with --scale LO,HI."
        )
    if scene.dtype == "uint8":
        return None
    return stretch_between(values.astype(np.float64), percentiles, str(scene.path))


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


def _sample(dataset: Any, scene: SceneFile, bands: BandPlan) -> npt.NDArray[Any]:
    """Valid values of a decimated read: of the whole, where that is cheap, else of blocks spread over the scene."""
    width, height = dataset.width, dataset.height
    if scene.has_overviews or width * height <= _SMALL_PIXELS:
        windows = [Window(0, 0, width, height)]
        step = max(1, -(-max(width, height) // _SAMPLE_SIDE))
    else:
        # Bytes are not stretched: their sample only tells an image from a map of classes.
        count = _CLASS_WINDOWS if scene.dtype == "uint8" else _STRETCH_WINDOWS
        windows, step = _spread_windows(width, height, scene.block, count), 4
    parts = [_valid_values(dataset, bands, window, step) for window in windows]
    values = np.concatenate(parts)
    if not len(values) and len(windows) > 1:
        values = _valid_values(dataset, bands, Window(0, 0, width, height), max(width, height) // _SAMPLE_SIDE)
    return values


def _spread_windows(width: int, height: int, block: tuple[int, int], count: int) -> list[Window]:
    high, wide = max(block[0], 16), max(block[1], 16)
    rows = _spread(height, high, count if wide < width else count**2)
    cols = _spread(width, wide, count)
    return [
        Window(col, row, min(wide, width - col), min(high, height - row))
        for row in rows
        for col in (cols if wide < width else [0])
    ]


def _spread(length: int, block: int, count: int) -> list[int]:
    last = max(0, length // block - 1)
    return sorted({round(place) * block for place in np.linspace(0, last, count)})


def _valid_values(dataset: Any, bands: BandPlan, window: Window, step: int) -> npt.NDArray[Any]:
    shape = (max(1, int(window.height) // step), max(1, int(window.width) // step))
    try:
        data = dataset.read(
            list(dict.fromkeys(bands.indexes)), window=window, out_shape=(len(set(bands.indexes)), *shape)
        )
        valid = dataset.dataset_mask(window=window, out_shape=shape) > 0
    except RasterioError:
        return np.empty(0, dataset.dtypes[0])  # its tiles will be told as unreadable
    if data.dtype.kind == "f":
        valid &= np.isfinite(data).all(axis=0)
    picked = data[:, valid]
    return picked[0] if len(picked) == 1 else grey(picked, bands).ravel()


def file_size(path: Path) -> int:
    """Bytes of a scene, for its record."""
    return os.stat(path).st_size  # noqa: PTH116
