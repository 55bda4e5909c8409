"""The tile grid as one small picture, so that a scene of any size shows the state of every tile. Pure.

A polygon a tile is 150 bytes; a picture of the grid is some kilobytes for a hundred thousand tiles. It is laid over the
map by the four corners of the grid, which also serves rotated scenes and those in another projection.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atalaya_dashboard.colours import DAMAGED, NOT_ASSESSED, NOT_DAMAGED
from atalaya_dashboard.placement import Point

LONGEST_SIDE_PX = 3072
_SMALL_SIDE_PX = 768
"""A grid of few tiles is drawn about this large, or its lines would be as thick as roads."""
_LINES_ACROSS = 64
"""How many lines of the hatch a small picture is wide; on the map they are then some 10 pixels apart."""
_GAP_FROM_PX = 8
"""Tiles this large in the picture have a dark line between them."""
_NO_ROW = 255
_STROKE_COLOUR = (64, 70, 77)
_PALETTE = (
    (0, 0, 0, 0),
    (*NOT_ASSESSED, 130),
    (*_STROKE_COLOUR, 240),
    (*NOT_DAMAGED, 255),
    (*DAMAGED, 255),
    (18, 26, 34, 255),
)
_CLEAR, _GREY, _STROKE, _NOT_DAMAGED, _DAMAGED, _GAP = range(len(_PALETTE))

Corners = tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class Overlay:
    """A picture as a data URL and where it lies: lon/lat of bottom left, top left, top right, bottom right."""

    url: str
    corners: Corners


def data_url(content: bytes, mime: str) -> str:
    """A picture inside its own address: nothing is fetched."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def states_picture(states: NDArray[np.uint8], with_assessed: bool) -> Image.Image:
    """A palette picture of a grid of states (0 not assessed, 1 not damaged, 2 damaged, 255 no row yet).

    Tiles that were not assessed are grey with diagonal lines. Assessed ones have their colour, or are clear without
    `with_assessed`.
    """
    longest = max(states.shape)
    cell_px = int(np.clip(LONGEST_SIDE_PX // longest, 2, max(16, _SMALL_SIDE_PX // longest)))
    grid = np.repeat(np.repeat(states, cell_px, axis=0), cell_px, axis=1)
    period = max(4, min(cell_px // 2, longest * cell_px // _LINES_ACROSS))
    y, x = np.ogrid[: grid.shape[0], : grid.shape[1]]
    line = (x + y) % period < max(1, period // 4)
    index = np.full(grid.shape, _CLEAR, dtype=np.uint8)
    index[grid == 0] = _GREY
    index[(grid == 0) & line] = _STROKE
    if with_assessed:
        index[grid == 1] = _NOT_DAMAGED
        index[grid == 2] = _DAMAGED
        if cell_px >= _GAP_FROM_PX:
            edge = np.zeros(grid.shape, dtype=bool)
            edge[::cell_px] = edge[:, ::cell_px] = True
            index[edge & (grid != _NO_ROW)] = _GAP
    picture = Image.fromarray(index)
    picture.putpalette([band for colour in _PALETTE for band in colour[:3]])
    return picture


def states_grid(row: NDArray[Any], col: NDArray[Any], state: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Tile rows as a grid; 255 where a tile has no row yet."""
    grid = np.full(shape, _NO_ROW, dtype=np.uint8)
    grid[row, col] = state
    return grid


def png_url(picture: Image.Image) -> str:
    """A palette picture as a PNG in a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6, transparency=bytes(colour[3] for colour in _PALETTE))
    return data_url(buffer.getvalue(), "image/png")


def webp_url(picture: Image.Image, longest_side_px: int) -> str:
    """A photograph in a data URL, no longer than given; WebP keeps its transparency in a tenth of a PNG's bytes."""
    smaller = picture.convert("RGBA")
    smaller.thumbnail((longest_side_px, longest_side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=82, method=2)
    return data_url(buffer.getvalue(), "image/webp")
