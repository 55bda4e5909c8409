"""Looks at a sample of a scene's values before the work: for the stretch, and for what would mislead without a word."""

from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window

from atalaya_serving.scoring.bands import BandPlan, grey, known_floats, looks_like_labels, stretch_between
from atalaya_serving.scoring.errors import SceneUnmappable
from atalaya_serving.scoring.scene import SceneFile, opened

_SAMPLE_SIDE = 1024
_SMALL_PIXELS = 4096**2
_STRETCH_WINDOWS, _CLASS_WINDOWS = 12, 4
_NOTABLE_FILL = 0.05

Values = npt.NDArray[Any]


def sample(scene: SceneFile, bands: BandPlan) -> Values:
    """Valid values of a decimated read, as grey where bands are mixed."""
    with opened(scene.path) as dataset:
        return _sampled(dataset, scene, bands)


def plan_stretch(
    scene: SceneFile, values: Values, percentiles: tuple[float, float], given: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The stretch of a scene: what was given; None for 8-bit; else between percentiles of a sample.

    Raises SceneUnmappable for a map of classes or a scene without a valid pixel.
    """
    if given is not None:
        return given
    if looks_like_labels(values):
        raise SceneUnmappable(
            f"{scene.path} looks like a map of classes (one band, values {values.min()} to {values.max()}), not an "
            "image; if it is one, say its range with --scale LO,HI."
        )
    if scene.dtype == "uint8":
        return None
    return stretch_between(values.astype(np.float64), percentiles, str(scene.path))


def value_warnings(scene: SceneFile, values: Values) -> list[str]:
    """What a person should know of the values: no contrast at all, or a fill value that nothing marks as missing."""
    if not len(values):
        return []
    if values.min() == values.max():
        return [
            f"{scene.path}: all pixels that were looked at have the value {values[0]:g}; tiles of one value show "
            "nothing and are not assessed"
        ]
    fill = values.min()
    share = float((values == fill).mean())
    may_fill = fill <= 0 or values.dtype.kind == "f"
    if scene.nodata is None and not scene.has_mask and may_fill and share > _NOTABLE_FILL:
        return [
            f"{scene.path}: {share:.0%} of its pixels are exactly {fill:g} and nothing marks them as missing; if that "
            f"means no data, say so in the file (gdal_edit.py -a_nodata {fill:g}), or they are taken for ground"
        ]
    return []


def _sampled(dataset: Any, scene: SceneFile, bands: BandPlan) -> npt.NDArray[Any]:
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
        valid &= known_floats(data)
    picked = data[:, valid]
    return picked[0] if len(picked) == 1 else grey(picked, bands).ravel()
