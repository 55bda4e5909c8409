"""The colours of damage, for the map, its legend and its hatched image alike.

Viridis (Smith and van der Walt, CC0): even steps of lightness, readable without colour vision and in print, and it
has no grey in it, so that grey can mean "we do not know" everywhere.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    dtype=np.float64,
)

DAMAGED: Colour = (253, 231, 37)
NOT_DAMAGED: Colour = (59, 81, 139)
NOT_ASSESSED: Colour = (150, 156, 162)
FEW: Colour = (128, 134, 140)
"""A cell with too few tiles to say anything."""
KNOWN: Colour = (213, 94, 0)
"""Vermilion (Okabe and Ito): what is known of a synthetic scene, drawn as an outline."""
_LEAST_ALPHA, _FULL_AT_SHARE = 20, 0.45


def ramp(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours [n, 3] for shares or probabilities 0 to 1; what lies outside is clipped."""
    at = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0) * (len(_VIRIDIS) - 1)
    low = np.minimum(at.astype(int), len(_VIRIDIS) - 2)
    part = (at - low)[..., None]
    mixed: NDArray[np.float64] = _VIRIDIS[low] * (1 - part) + _VIRIDIS[low + 1] * part
    return np.rint(mixed).astype(np.uint8)


def heat(shares: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours with alpha [n, 4]: the smaller the expected damage, the more of the scene shows through."""
    part = np.clip(np.asarray(shares, dtype=np.float64) / _FULL_AT_SHARE, 0.0, 1.0)
    alpha = np.rint(_LEAST_ALPHA + (255 - _LEAST_ALPHA) * part).astype(np.uint8)
    return np.concatenate([ramp(shares), alpha[..., None]], axis=-1)


def css(colour: Colour) -> str:
    """`rgb(…)` for a style sheet."""
    return f"rgb({colour[0]},{colour[1]},{colour[2]})"


def css_gradient() -> str:
    """The heat colours as a CSS gradient from left (0) to right (1)."""
    stops = ", ".join(f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in heat(np.linspace(0, 1, 17)).tolist())
    return f"linear-gradient(to right, {stops})"
