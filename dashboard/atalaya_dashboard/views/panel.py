"""What is known of the cell or tile that was clicked: its pixels, its probability, and who said so."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from atalaya_dashboard.cells import Cells
from atalaya_dashboard.data import MapData, pixels_of
from atalaya_dashboard.deck import Mode
from atalaya_dashboard.markup import plain
from atalaya_dashboard.placement import wrapped
from atalaya_dashboard.ranking import LEAST_SHARE, most_damaged_first
from atalaya_dashboard.selection import Clicked
from atalaya_serving.store import TileState
from atalaya_spec.errors import AtalayaError

THUMBNAILS = 12
STATE_WORDS = {
    TileState.DAMAGED: "Damaged",
    TileState.NOT_DAMAGED: "Not damaged",
    TileState.NOT_ASSESSED: "Not assessed",
}


def ranked(data: MapData, cells: Cells, places: tuple[str, ...], mode: Mode, key: str) -> None:
    """Buttons for the places to look at first, numbered as on the map; the way there without a mouse."""
    if mode == "scene" or not data.states.assessed:
        return
    if not places:
        st.caption(
            f"No cell stands out: none with enough tiles has {LEAST_SHARE:.0%} or more expected damaged."
            if mode == "heat"
            else "No tile is above the model's threshold."
        )
        return
    words = {place: place_words(data, cells, place, mode) for place in places}
    st.pills(
        "Most damaged cells" if mode == "heat" else "Most damaged tiles",
        places,
        format_func=lambda place: f"{places.index(place) + 1}: {words[place]}",
        key=key,
        wrap=True,
        help="The numbers are on the map. Choose one to see what is there.",
    )


def place_words(data: MapData, cells: Cells, place: str, mode: Mode) -> str:
    """How damaged a place of the ranking is."""
    if mode == "heat":
        return f"{cells.share[cells.ids.index(place)]:.0%}"
    return f"{data.tiles.probability[int(place)]:.2f}"


def show(data: MapData, cells: Cells, found: Clicked | None, mode: Mode) -> None:
    """The panel beside the map."""
    if found is None:
        if mode == "scene":
            st.caption("Choose Heatmap or Tiles to click a place and see its pixels.")
        else:
            place = "cell" if mode == "heat" else "tile"
            st.caption(f"Click a {place} to see its pixels and its probability. Scroll to zoom, drag to move.")
    elif found.cell:
        cell(data, cells, found)
    else:
        tile(data, int(found.tiles[0]))


def cell(data: MapData, cells: Cells, found: Clicked) -> None:
    """A cell: its share, and its tiles, the most damaged first."""
    index = cells.ids.index(found.cell)
    assessed, missing = int(cells.assessed[index]), int(cells.not_assessed[index])
    st.markdown("##### Chosen cell")
    if assessed:
        st.markdown(
            f"**{cells.share[index]:.0%}** of n = {assessed} tiles expected damaged; "
            f"{int(cells.damaged[index])} above the threshold."
        )
    if cells.few[index]:
        st.caption("Too few tiles to say much; look at them one by one.")
    if missing:
        st.caption(f"{missing} more not assessed: unknown.")
    ordered = most_damaged_first(data.tiles, found.tiles)
    picked = st.selectbox(
        "Look at a tile", ordered.tolist(), format_func=lambda i: short(data, i), key=f"tile-of-{found.cell}"
    )
    tile(data, picked)
    thumbnails(data, ordered[:THUMBNAILS])


def thumbnails(data: MapData, members: NDArray[np.int64]) -> None:
    """Small pictures of a cell's tiles."""
    try:
        pictures = [picture(data, int(member)) for member in members]
    except AtalayaError:
        return  # the large picture above already says why
    st.image(pictures, caption=[probability_words(data, int(member)) for member in members], width=76)


def tile(data: MapData, index: int) -> None:
    """A tile: what was said of it and by whom, and its pixels as the model saw them."""
    tiles, assessment = data.tiles, data.assessment
    state = TileState(int(tiles.state[index]))
    st.markdown(f"##### Tile row {tiles.row[index]}, column {tiles.col[index]}")
    if data.synthetic:
        st.badge("Synthetic scene", color="orange")
    if state == TileState.NOT_ASSESSED:
        st.markdown(f"**Not assessed**: {plain(str(tiles.reason[index]))}. Unknown, not safe.")
    else:
        st.markdown(f"**{STATE_WORDS[state]}**, calibrated probability **{tiles.probability[index]:.3f}**")
    try:
        st.image(picture(data, index), width="stretch")
    except AtalayaError as error:
        st.info(f"Its pixels cannot be shown: {plain(str(error))}")
    lon, lat = data.corners[index].mean(axis=0)
    st.caption(
        f"{assessment.model} version {assessment.version} · {lat:.5f}, {wrapped(float(lon)):.5f} · "
        f"{data.tile_size_m:g} m a side · model {assessment.model_digest.removeprefix('sha256:')[:12]}"
    )


@st.cache_data(show_spinner=False, max_entries=512)
def _picture(assessment_id: str, row: int, col: int, _data: MapData) -> NDArray[np.uint8]:  # noqa: ARG001 - the key
    return pixels_of(_data, row, col)


def picture(data: MapData, index: int) -> NDArray[np.uint8]:
    """A tile's pixels, kept for a while. Raises ScenePixelsUnavailable."""
    return _picture(data.assessment.id, int(data.tiles.row[index]), int(data.tiles.col[index]), data)


def probability_words(data: MapData, index: int) -> str:
    """A probability under a thumbnail."""
    probability = data.tiles.probability[index]
    return "not assessed" if np.isnan(probability) else f"{probability:.2f}"


def short(data: MapData, index: int) -> str:
    """A tile in a list."""
    return f"row {data.tiles.row[index]}, column {data.tiles.col[index]}: {probability_words(data, index)}"
