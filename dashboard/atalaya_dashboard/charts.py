"""Data in, deck or figure out. Pure: no page, no store, no network.

The deck has no base map: with `map_provider=None` and `map_style` left unset nothing is asked from the internet (a
`map_style` of None or "" still asks a CDN). What lies under the damage is the scene itself.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import h3
import numpy as np
import pandas as pd
import pydeck as pdk
from pydeck.bindings.json_tools import default_serialize

from atalaya_dashboard.cells import FEW_TILES, Cells
from atalaya_dashboard.colours import FEW, heat
from atalaya_dashboard.grid_image import Overlay
from atalaya_dashboard.metrics import Window
from atalaya_serving.store import TileTable

MAX_FOOTPRINTS = 20_000
"""More polygons than this make a slow page; the heatmap and the hatch still show every tile."""
MAX_CELLS = 20_000
CELLS, TILES = "cells", "tiles"
_FEW_ALPHA = 150
_MAX_OUTLINES = 3000
_ALMOST_CLEAR = [255, 255, 255, 1]
"""What is quite clear cannot be clicked."""
_VIEW_PX = (760, 600)
_TOOLTIP_STYLE = {"backgroundColor": "#15212b", "color": "#ffffff", "fontSize": "0.85rem", "borderRadius": "4px"}


Mode = Literal["heat", "tiles", "scene"]


@dataclass(frozen=True)
class Look:
    """What the analyst chose to see. `opacity` 0 to 1 is that of the damage over the scene."""

    mode: Mode = "heat"
    scene: bool = True
    opacity: float = 0.6


@dataclass(frozen=True)
class MapContent:
    """All that may be drawn. `bounds` is lon/lat west, south, east, north; `ring` marks what was clicked."""

    bounds: tuple[float, float, float, float]
    tiles: TileTable
    cells: Cells
    scene: Overlay | None = None
    hatch: Overlay | None = None
    """Only the tiles that were not assessed."""
    states: Overlay | None = None
    """All tiles in the colours of their states."""
    ring: tuple[tuple[float, float], ...] = ()


class _CompactDeck(pdk.Deck):  # type: ignore[misc]
    """A deck whose JSON has no indentation: a third of the bytes for polygons."""

    def to_json(self) -> str:
        return json.dumps(self, sort_keys=True, default=default_serialize, separators=(",", ":"))


def damage_map(content: MapContent, look: Look) -> pdk.Deck:
    """The map: the scene below, damage above it, and a ring around what was clicked."""
    layers = [_picture("scene", content.scene, 1.0)] if look.scene else []
    if look.mode == "heat":
        layers += [_picture("not-assessed", content.hatch, 0.9), *_heat_layers(content.cells, look.opacity)]
    elif look.mode == "tiles":
        layers.append(_picture("states", content.states, look.opacity))
        if len(content.tiles) <= MAX_FOOTPRINTS:
            layers.append(_footprint_layer(content.tiles))
    if content.ring:
        layers.append(_ring_layer(content.ring))
    return _CompactDeck(
        layers=[layer for layer in layers if layer is not None],
        initial_view_state=view_of(content.bounds),
        map_provider=None,
        tooltip={"text": "{t}", "style": _TOOLTIP_STYLE},
    )


def view_of(bounds: tuple[float, float, float, float]) -> pdk.ViewState:
    """The view that shows all of `bounds` in the map's usual size on the page."""
    west, south, east, north = bounds
    high, low = _mercator(north), _mercator(south)
    width, height = max(east - west, 1e-6) / 360.0, max(high - low, 1e-9)
    zoom = min(math.log2(_VIEW_PX[0] / 512 / width), math.log2(_VIEW_PX[1] / 512 / height)) - 0.12
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


def _heat_layers(cells: Cells, opacity: float) -> list[pdk.Layer]:
    """The hexagons to be clicked, and their outlines while they are not too many."""
    colours = heat(np.nan_to_num(cells.share))
    colours[cells.few] = [*FEW, _FEW_ALPHA]
    colours[cells.assessed == 0] = _ALMOST_CLEAR
    rings = [[[round(lon, 6), round(lat, 6)] for lon, lat in cell_ring(name)] for name in cells.ids]
    data = [
        {"id": name, "p": ring, "c": colour, "t": told}
        for name, ring, colour, told in zip(cells.ids, rings, colours.tolist(), _cell_words(cells), strict=True)
    ]
    hexagons = _polygons(CELLS, data, "@@=c", opacity)
    return [hexagons, _outlines(rings)] if len(rings) <= _MAX_OUTLINES else [hexagons]


def _outlines(rings: list[list[list[float]]]) -> pdk.Layer:
    """Outlines in a layer of their own: what can be clicked is drawn again for every click, and lines draw slowly."""
    return pdk.Layer(
        "PolygonLayer",
        id="cell-outlines",
        data=[{"p": ring} for ring in rings],
        get_polygon="p",
        get_line_color=[255, 255, 255, 150],
        line_width_min_pixels=1,
        filled=False,
        stroked=True,
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


def _footprint_layer(tiles: TileTable) -> pdk.Layer:
    """Footprints to be clicked; their colours and outlines come from the picture of states.

    Outlines would have to be drawn again for every click: without a graphics card that takes half a second for 3,600
    tiles, and a press that long is no click to deck.gl.
    """
    data = [
        {"r": row, "k": col, "p": ring, "t": told}
        for row, col, ring, told in zip(
            tiles.row.tolist(),
            tiles.col.tolist(),
            np.round(tiles.corners, 6).tolist(),
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


def _ring_layer(ring: Sequence[tuple[float, float]]) -> pdk.Layer:
    """Black on white, to be seen on every colour and on the scene."""
    outline = [[round(lon, 7), round(lat, 7)] for lon, lat in ring]
    return pdk.Layer(
        "PolygonLayer",
        id="clicked",
        data=[{"p": outline, "e": [255, 255, 255], "w": 7}, {"p": outline, "e": [0, 0, 0], "w": 3}],
        get_polygon="p",
        get_line_color="e",
        get_line_width="w",
        line_width_units=pdk.types.String("pixels"),
        filled=False,
        stroked=True,
        pickable=False,
    )


def cell_ring(cell: str) -> tuple[tuple[float, float], ...]:
    """A cell's outline in lon/lat (H3 gives lat, lng)."""
    return tuple((lon, lat) for lat, lon in h3.cell_to_boundary(cell))


def latency_chart(history: Sequence[tuple[float, Window]], height: int = 200) -> alt.Chart:
    """p50, p95 and p99 in milliseconds over time; gaps where nothing was asked."""
    rows = [
        {"time": at, "quantile": name, "ms": value * 1000}
        for at, found in history
        for name, value in (("p50", found.p50), ("p95", found.p95), ("p99", found.p99))
    ]
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "quantile", "ms")), height=height)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=14))
        .encode(
            x=_time_axis(),
            y=alt.Y("ms:Q", title="milliseconds (log)", scale=alt.Scale(type="log", nice=True)),
            color=alt.Color(
                "quantile:N",
                title=None,
                scale=alt.Scale(domain=["p50", "p95", "p99"], range=["#7aa6c2", "#2c718e", "#440154"]),
                legend=alt.Legend(orient="top", direction="horizontal", offset=2),
            ),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "quantile:N", alt.Tooltip("ms:Q", format=".2f")],
        )
    )
    return chart


def rate_chart(history: Sequence[tuple[float, Window]], height: int = 140) -> alt.Chart:
    """Requests answered and requests failed, per second, over time."""
    rows = [
        {"time": at, "kind": kind, "per second": value}
        for at, found in history
        for kind, value in (
            ("answered", found.requests_per_second - found.errors_per_second),
            ("failed", found.errors_per_second),
        )
    ]
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "kind", "per second")), height=height)
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=_time_axis(),
            y=alt.Y("per second:Q", title="requests/s", stack=True, axis=_NUMBERS),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=["answered", "failed"], range=["#7aa6c2", "#d35400"]),
                legend=alt.Legend(orient="top", direction="horizontal", offset=2),
            ),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "kind:N", alt.Tooltip("per second:Q", format=".1f")],
        )
    )
    return chart


def queue_chart(history: Sequence[tuple[float, Window]], height: int = 140) -> alt.Chart:
    """Requests waiting for a free inference, over time."""
    rows = [{"time": at, "waiting": found.queue_depth} for at, found in history]
    peak = max([1.0, *(found.queue_depth for _, found in history)])
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "waiting")), height=height)
        .mark_area(interpolate="step-after", color="#2c718e", opacity=0.7)
        .encode(
            x=_time_axis(),
            y=alt.Y("waiting:Q", title="waiting", scale=alt.Scale(domain=[0, peak]), axis=_NUMBERS),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "waiting:Q"],
        )
    )
    return chart


_NUMBERS = alt.Axis(format="~g", tickCount=4)


def _time_axis() -> alt.X:
    return alt.X("time:T", title=None, axis=alt.Axis(format="%H:%M:%S", labelOverlap=True, tickCount=6))


def _frame(rows: Sequence[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(columns))
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
    return frame
