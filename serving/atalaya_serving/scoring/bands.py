"""Which bands of a scene a model gets, and how their values become the model's bytes. Pure: numpy in, numpy out.

Bands go by their colour interpretation. Grey from colour is the BT.601 luma. 8-bit values pass as they are; others
through one linear stretch, the same for all bands. Work goes over the rows in pieces that stay in the processor's
cache, which is about twice as fast as whole arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atalaya_serving.scoring.errors import SceneUnmappable

LUMA = (0.299, 0.587, 0.114)
_PIECE_PIXELS = 1 << 17
_LARGEST_LABEL = 31
_NO_BRIGHTNESS = 1e30


@dataclass(frozen=True)
class BandPlan:
    """`indexes` are the scene's bands (from 1) in the order read; `mix` weighs them to one grey band, or is None when
    each is one of the model's bands."""

    indexes: tuple[int, ...]
    mix: tuple[float, ...] | None
    warning: str = ""


def plan_bands(
    colours: Sequence[str], wanted: Sequence[str], given: Sequence[int] | None = None, name: str = "the scene"
) -> BandPlan:
    """Choose the bands for a model that wants `wanted` (("gray",) or ("red", "green", "blue")).

    `colours` are the scene's colour interpretations by band; `given` overrides them by band number: one for grey,
    three for red, green, blue. Raises SceneUnmappable.
    """
    if given is not None:
        if len(given) not in {1, 3} or not all(1 <= band <= len(colours) for band in given):
            raise SceneUnmappable(
                f"--bands {','.join(map(str, given))} does not fit {name}, which has {len(colours)} band(s); give one "
                "(grey) or three (red, green, blue) of its band numbers."
            )
        return _plan(tuple(given), wanted)
    if "palette" in colours:
        raise SceneUnmappable(
            f"{name} has a colour table: its values are labels, not brightness; expand it first "
            "(gdal_translate -expand rgb)."
        )
    rgb = tuple(colours.index(colour) + 1 for colour in ("red", "green", "blue") if colour in colours)
    if len(rgb) == 3:
        return _plan(rgb, wanted)
    unnamed = [band for band, colour in enumerate(colours, 1) if colour in {"gray", "undefined"}]
    others = [colour for colour in colours if colour not in {"gray", "undefined", "alpha"}]
    if len(unnamed) == 1 and (colours[unnamed[0] - 1] == "gray" or not others):
        return _plan((unnamed[0],), wanted)
    if len(unnamed) == 3 and not others:
        guess = "no band is named by colour; the three are taken as red, green, blue (name others with --bands)"
        return _plan(tuple(unnamed), wanted, f"{name}: {guess}")
    raise SceneUnmappable(
        f"{name} has bands ({', '.join(colours)}) that cannot be mapped to {', '.join(wanted)}; say which to use by "
        "number, as --bands 3,2,1 (red, green, blue) or --bands 1 (grey)."
    )


def _plan(bands: tuple[int, ...], wanted: Sequence[str], warning: str = "") -> BandPlan:
    if len(wanted) == 1:
        return BandPlan(bands, LUMA if len(bands) == 3 else None, warning)
    return BandPlan(bands if len(bands) == 3 else bands * 3, None, warning)


def refuse_dtype(dtype: str, name: str) -> None:
    """Raise SceneUnmappable for values that have no brightness."""
    if dtype.startswith("complex"):
        raise SceneUnmappable(f"{name} holds complex numbers ({dtype}); make an amplitude image of it first.")


def known_floats(data: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which pixels of float bands [b, …] are values in all of them: not NaN, not infinite, and not the largest numbers
    that there are, which programs write for missing ones (-3.4e38)."""
    return np.asarray((np.abs(data) < _NO_BRIGHTNESS).all(axis=0))


def looks_like_labels(values: npt.NDArray[Any]) -> bool:
    """Whether a sample of one integer band is a map of classes: several values, all of them tiny."""
    if not len(values) or not np.issubdtype(values.dtype, np.integer):
        return False
    return bool(values.min() >= 0 and values.max() <= _LARGEST_LABEL and values.min() != values.max())


def grey(data: npt.NDArray[Any], plan: BandPlan) -> npt.NDArray[np.float64]:
    """The bands [b, …] as the model would see them before any stretch: the mix, or the bands themselves."""
    if plan.mix is None:
        return data.astype(np.float64)
    return np.tensordot(np.array(plan.mix), data.astype(np.float64), axes=1)


def stretch_between(
    values: npt.NDArray[np.float64], percentiles: tuple[float, float], name: str
) -> tuple[float, float]:
    """Low and high of the linear stretch, from a sample of valid values. Raises SceneUnmappable when it is empty."""
    values = values[np.isfinite(values)]
    if not len(values):
        raise SceneUnmappable(f"{name} has no valid pixel (all are nodata or NaN); check the file.")
    low, high = (float(value) for value in np.percentile(values, percentiles))
    return (low, high) if high > low else (low, low + 1.0)


def to_bytes(data: npt.NDArray[Any], plan: BandPlan, stretch: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """Bands [b, h, w] to the model's pixels [h, w, c]. Values that are not finite become 0: they are not valid."""
    if stretch is None and plan.mix is None and data.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(data, 0, -1)) if len(data) > 1 else data[0][..., None]
    low, high = stretch or (0.0, 255.0)
    factor = 255.0 / (high - low)
    wide = np.float32 if data.dtype.itemsize <= 2 or data.dtype == np.float32 else np.float64
    groups = [(tuple(range(len(data))), plan.mix)] if plan.mix else [((band,), (1.0,)) for band in range(len(data))]
    out = np.empty((*data.shape[1:], len(groups)), np.uint8)
    rows = max(1, _PIECE_PIXELS // max(1, data.shape[2]))
    for channel, (bands, weights) in enumerate(groups):
        scaled = [wide(weight * factor) for weight in weights]
        offset = wide(0.5 - low * factor * sum(weights))
        for start in range(0, data.shape[1], rows):
            piece = data[:, start : start + rows]
            with np.errstate(over="ignore", invalid="ignore"):  # of values that are not valid
                total = _mixed([piece[band] for band in bands], scaled, wide)
                total += offset
            if data.dtype.kind == "f":
                total[~np.isfinite(total)] = 0
            np.clip(total, 0, 255, out=total)
            np.copyto(out[start : start + rows, :, channel], total, casting="unsafe")
    return out


def _mixed(bands: Sequence[npt.NDArray[Any]], weights: Sequence[Any], wide: Any) -> npt.NDArray[Any]:
    total: npt.NDArray[Any] = np.multiply(bands[0], weights[0], dtype=wide, casting="unsafe")
    for band, weight in zip(bands[1:], weights[1:], strict=True):
        total += np.multiply(band, weight, dtype=wide, casting="unsafe")
    return total
