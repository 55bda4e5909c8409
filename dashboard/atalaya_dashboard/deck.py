"""The map's layers: data in, deck out. Pure: no page, no store, no network.

The deck has no base map: with `map_provider=None` and `map_style` left unset nothing is asked from the internet (a
`map_style` of None or "" still asks a CDN). What lies under the damage is the scene itself.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import h3
import numpy as np
import pydeck as pdk
from numpy.typing import NDArray
from pydeck.bindings.json_tools import default_serialize

from atalaya_dashboard.cells import FEW_TILES, Cells
from atalaya_dashboard.colours import FEW, KNOWN, Colour, heat
from atalaya_dashboard.grid_image import Overlay
from atalaya_dashboard.placement import Bounds, Ring, label_point
from atalaya_dashboard.scene_folder import Truth
from atalaya_serving.store import TileTable

MAX_FOOTPRINTS = 20_000
"""More polygons than this make a slow page; the heatmap and the hatch still show every tile."""
MAX_CELLS = 20_000
FEW_SIGN = "?"
CELLS, TILES, RANKS, KNOWN_DAMAGE = "cells", "tiles", "ranks", "known-damage"
_FEW_ALPHA = 150
_MAX_OUTLINES = 3000
_ALMOST_CLEAR = [255, 255, 255, 1]
"""What is quite clear cannot be clicked."""
_VIEW_PX, _PHONE_PX = (760, 560), (350, 400)
_TOOLTIP_STYLE = {"backgroundColor": "#15212b", "color": "#ffffff", "fontSize": "0.85rem", "borderRadius": "4px"}


Mode = Literal["heat", "tiles", "scene"]


@dataclass(frozen=True)
class Look:
    """What the analyst chose to see. `opacity` 0 to 1 is that of the damage over the scene."""

    mode: Mode = "heat"
    scene: bool = True
    opacity: float = 0.6
    truth: bool = False


@dataclass(frozen=True)
class MapContent:
    """All that may be drawn, with longitudes in one piece. `ring` marks what was clicked, `ranked` the places to
    look at first, worst first."""

    bounds: Bounds
    tiles: TileTable
    corners: NDArray[np.float64]
    cells: Cells
    rings: Sequence[Ring]
    """Of the cells."""
    scene: Overlay | None = None
    hatch: Overlay | None = None
    """Only the tiles that were not assessed."""
    states: Overlay | None = None
    """All tiles in the colours of their states."""
    truth: Truth | None = None
    ring: Ring = ()
    ranked: tuple[Ring, ...] = ()
    on_phone: bool = False


class _CompactDeck(pdk.Deck):  # type: ignore[misc]
    """A deck whose JSON has no indentation: a third of the bytes for polygons."""

    def to_json(self) -> str:
        return json.dumps(self, sort_keys=True, default=default_serialize, separators=(",", ":"))


def damage_map(content: MapContent, look: Look) -> pdk.Deck:
    """The map: the scene below, damage above it, and a ring around what was clicked."""
    layers = [_picture("scene", content.scene, 1.0)] if look.scene else []
    if look.mode == "heat":
        layers += [_picture("not-assessed", content.hatch, 0.9), *_heat_layers(content, look.opacity)]
    elif look.mode == "tiles":
        layers.append(_picture("states", content.states, look.opacity))
        if len(content.tiles) <= MAX_FOOTPRINTS:
            layers.append(_footprint_layer(content.tiles, content.corners))
    if look.truth and content.truth is not None:
        layers.append(_truth_layer(content.truth))
    if content.ring:
        layers.append(_ring_layer(content.ring))
    if content.ranked:
        layers.append(_rank_layer(content.ranked, size_px=17 if look.mode == "heat" else 12))
    return _CompactDeck(
        layers=[layer for layer in layers if layer is not None],
        initial_view_state=view_of(content.bounds, _PHONE_PX if content.on_phone else _VIEW_PX),
        views=[pdk.View(type="MapView", controller=True, repeat=True)],  # so that the antimeridian is no edge
        map_provider=None,
        tooltip={"text": "{t}", "style": _TOOLTIP_STYLE},
    )


def view_of(bounds: Bounds, view_px: tuple[int, int] = _VIEW_PX) -> pdk.ViewState:
    """The view that shows all of `bounds` in a map of this width and height."""
    west, south, east, north = bounds
    high, low = _mercator(north), _mercator(south)
    width, height = max(east - west, 1e-6) / 360.0, max(high - low, 1e-9)
    zoom = min(math.log2(view_px[0] / 512 / width), math.log2(view_px[1] / 512 / height)) - 0.12
    return pdk.ViewState(
        longitude=round((west + east) / 2, 7),
        latitude=round(math.degrees(2 * math.atan(math.exp((high + low) * math.pi)) - math.pi / 2), 7),
        zoom=round(zoom, 3),
        max_zoom=21,
        min_zoom=1,
        pitch=0,
        bearing=0,
    )


def _mercator(lat: float) -> float:
    """Web Mercator's y, in half turns."""
    return math.log(math.tan(math.pi / 4 + math.radians(lat) / 2)) / (2 * math.pi)


def _picture(name: str, overlay: Overlay | None, opacity: float) -> pdk.Layer | None:
    if overlay is None:
        return None
    return pdk.Layer(
        "BitmapLayer",
        id=name,
        image=pdk.types.String(overlay.url),
        bounds=[list(corner) for corner in overlay.corners],
        opacity=opacity,
        texture_parameters={"minFilter": "linear", "magFilter": "linear" if name == "scene" else "nearest"},
        pickable=False,
    )


def _heat_layers(content: MapContent, opacity: float) -> list[pdk.Layer]:
    """The hexagons to be clicked, and their outlines while they are not too many."""
    cells = content.cells
    colours = heat(np.nan_to_num(cells.share))
    colours[cells.few] = [*FEW, _FEW_ALPHA]
    colours[cells.assessed == 0] = _ALMOST_CLEAR
    rings = [_rounded(ring) for ring in content.rings]
    data = [
        {"id": name, "p": ring, "c": colour, "t": told}
        for name, ring, colour, told in zip(cells.ids, rings, colours.tolist(), _cell_words(cells), strict=True)
    ]
    hexagons = _polygons(CELLS, data, "@@=c", opacity)
    return [hexagons, _outlines(rings), _few_layer(content)] if len(rings) <= _MAX_OUTLINES else [hexagons]


def _outlines(rings: list[list[list[float]]]) -> pdk.Layer:
    """Outlines in a layer of their own: what can be clicked is drawn again for every click, and lines draw slowly."""
    return pdk.Layer(
        "PolygonLayer",
        id="cell-outlines",
        data=[{"p": ring} for ring in rings],
        get_polygon="p",
        get_line_color=[255, 255, 255, 150],
        line_width_units=pdk.types.String("pixels"),
        filled=False,
        stroked=True,
        pickable=False,
    )


def _few_layer(content: MapContent) -> pdk.Layer:
    """A sign on each cell with too few tiles: without red and green, the grey looks like half the tiles damaged."""
    cells = content.cells
    data = [{"p": label_point(content.rings[index]), "n": FEW_SIGN} for index in np.flatnonzero(cells.few).tolist()]
    return pdk.Layer(
        "TextLayer",
        id="few",
        data=data,
        get_position="p",
        get_text="n",
        get_size=h3.average_hexagon_edge_length(cells.resolution, unit="m") * 0.8,
        size_units=pdk.types.String("meters"),
        size_max_pixels=24,
        get_color=[255, 255, 255],
        font_family=pdk.types.String("sans-serif"),
        font_weight=700,
        pickable=False,
    )


def _polygons(name: str, data: list[dict[str, Any]], fill: object, opacity: float) -> pdk.Layer:
    """Polygons to be clicked. The colour goes to the layer that fills, below the one that Streamlit knows of.

    Streamlit repaints what it knows: on a click, the clicked opaque and the others pale. A heatmap must stay as its
    legend says.
    """
    return pdk.Layer(
        "PolygonLayer",
        id=name,
        data=data,
        get_polygon="p",
        _sub_layer_props={"fill": {"getFillColor": fill}},
        stroked=False,
        filled=True,
        opacity=opacity,
        pickable=True,
    )


def _cell_words(cells: Cells) -> list[str]:
    words = []
    for assessed, missing, share in zip(cells.assessed, cells.not_assessed, cells.share, strict=True):
        rest = f"\n{missing} not assessed" if missing else ""
        if assessed == 0:
            words.append("not assessed" + rest)
        elif assessed < FEW_TILES:
            words.append(f"too few tiles to say: n = {assessed}{rest}")
        else:
            words.append(f"{share:.0%} expected damaged, n = {assessed}{rest}")
    return words


def _footprint_layer(tiles: TileTable, corners: NDArray[np.float64]) -> pdk.Layer:
    """Footprints to be clicked; their colours and outlines come from the picture of states.

    Outlines would have to be drawn again for every click: without a graphics card that takes half a second for 3,600
    tiles, and a press that long is no click to deck.gl.
    """
    data = [
        {"r": row, "k": col, "p": ring, "t": told}
        for row, col, ring, told in zip(
            tiles.row.tolist(),
            tiles.col.tolist(),
            np.round(corners, 6).tolist(),
            _tile_words(tiles),
            strict=True,
        )
    ]
    return _polygons(TILES, data, _ALMOST_CLEAR, opacity=1.0)


def _tile_words(tiles: TileTable) -> list[str]:
    names = ("not assessed", "not damaged", "damaged")
    return [
        f"{names[state]}: {reason}" if state == 0 else f"{names[state]}, probability {probability:.2f}"
        for state, reason, probability in zip(
            tiles.state.tolist(), tiles.reason.tolist(), tiles.probability.tolist(), strict=True
        )
    ]


def _ring_layer(ring: Ring) -> pdk.Layer:
    """Black on white, to be seen on every colour and on the scene."""
    return _outlined("clicked", [ring], ((255, 255, 255), 7), ((0, 0, 0), 3))


def _truth_layer(truth: Truth) -> pdk.Layer:
    """Outlines, so that what the model said stays to be seen inside them."""
    return _outlined(KNOWN_DAMAGE, truth.damaged, ((255, 255, 255), 4), (KNOWN, 2))


def _outlined(name: str, rings: Sequence[Ring], *strokes: tuple[Colour, int]) -> pdk.Layer:
    """Rings of several strokes, each a colour and a width in pixels, the lowest first."""
    data = [{"p": _rounded(ring), "e": list(colour), "w": width_px} for colour, width_px in strokes for ring in rings]
    return pdk.Layer(
        "PolygonLayer",
        id=name,
        data=data,
        get_polygon="p",
        get_line_color="e",
        get_line_width="w",
        line_width_units=pdk.types.String("pixels"),
        filled=False,
        stroked=True,
        pickable=False,
    )


def _rank_layer(ranked: Sequence[Ring], size_px: int) -> pdk.Layer:
    """Numbers on the places to look at first: found at a glance, whatever the colours."""
    data = [{"p": label_point(ring), "n": str(number)} for number, ring in enumerate(ranked, 1)]
    return pdk.Layer(
        "TextLayer",
        id=RANKS,
        data=data,
        get_position="p",
        get_text="n",
        get_size=size_px,
        get_color=[255, 255, 255],
        font_family=pdk.types.String("sans-serif"),
        font_weight=700,
        background=True,
        get_background_color=[21, 33, 43],
        background_padding=[round(size_px * 0.4), 2, round(size_px * 0.4), 2],
        get_border_color=[255, 255, 255],
        get_border_width=2,
        pickable=False,
    )


def _rounded(ring: Ring) -> list[list[float]]:
    """To a decimetre, which is a third of the bytes."""
    return [[round(lon, 6), round(lat, 6)] for lon, lat in ring]
