"""The map page: choose an assessment, see its damage over the scene, click, download."""

import numpy as np
import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.cells import RESOLUTIONS, Cells, suggested_resolution
from atalaya_dashboard.data import MapData
from atalaya_dashboard.deck import MAX_CELLS, MAX_FOOTPRINTS, Look, MapContent, Mode, damage_map
from atalaya_dashboard.placement import Ring
from atalaya_dashboard.ranking import worst_cells, worst_tiles
from atalaya_dashboard.selection import Clicked, clicked
from atalaya_dashboard.views import choice, downloads, follow, live, panel, resources
from atalaya_spec.errors import AtalayaError

MODES: dict[Mode, str] = {"heat": "Heatmap", "tiles": "Tiles", "scene": "Scene"}
MAP_HEIGHT_PX, PHONE_HEIGHT_PX = 580, 420


def page() -> None:
    """The whole page. Whatever is missing is said in words."""
    st.html(markup.STYLE)
    try:
        content_of_page()
    except AtalayaError as error:
        resources.store.clear()  # the next run opens it anew
        st.error(f"The store cannot be read: {markup.plain(str(error))}", icon=":material/database_off:")


def content_of_page() -> None:
    """The newest or the chosen assessment, or what to do without any. Raises StoreError."""
    found = resources.assessments(st.query_params.get(choice.ADDRESS, ""))
    if not found:
        empty()
        return
    with st.sidebar:
        assessment = choice.chosen(found)
    assessment = resources.store().assessment(assessment.id)  # as it is now
    data = resources.map_data(assessment.id, assessment.tiles_done, assessment.state)
    show(data)


def empty() -> None:
    """Nothing was assessed yet."""
    st.markdown("## No scene has been assessed yet")
    st.markdown(
        "The map shows what `atalaya assess` finds in a scene. Upload a GeoTIFF on the **Assess** page, "
        "run `atalaya assess SCENE.tif --model haiti-damage`, or see a synthetic town with `atalaya demo`."
    )
    st.page_link("views/assess.py", label="Assess a scene", icon=":material/add_photo_alternate:")
    live.strip()


def show(data: MapData) -> None:
    """One assessment."""
    warnings(data)
    if not len(data.tiles):
        if data.assessment.state != "running":
            st.info("This assessment has no tiles.")
        return
    with st.sidebar:
        look, resolution = controls(data)
        downloads.offer(data)
    cells = drawable_cells(data, resolution)
    places = ranking(data, cells, look.mode)
    picked = f"worst-{data.assessment.id}-{look.mode}-{cells.resolution}"
    left, right = st.columns([0.72, 0.28], gap="medium")
    with left:
        st.html(markup.count(data))
        found = draw(data, cells, look, places, picked)
        st.html(markup.legend(look.mode, look.truth))
    with right:
        panel.ranked(data, cells, places, look.mode, picked)
        panel.show(data, cells, found, look.mode)
        st.divider()
        live.strip()


def warnings(data: MapData) -> None:
    """What to know before reading the map: how the assessment ended, and what was noticed about its scene."""
    assessment = data.assessment
    if assessment.state == "failed":
        st.error(
            f"This assessment failed after {assessment.tiles_done:,} of {assessment.tiles_total:,} tiles: "
            f"{markup.plain(assessment.message)} The map shows what was done before.",
            icon=":material/error:",
        )
    if assessment.state == "running":
        follow.follow(assessment)
    for warning in assessment.warnings:
        st.warning(markup.plain(warning), icon=":material/warning:")


def controls(data: MapData) -> tuple[Look, int]:
    """What to draw, and how finely."""
    mode = st.segmented_control(
        "Show", list(MODES), format_func=lambda name: MODES[name], default="heat", required=True, key="mode"
    )
    tile_m2 = data.tile_size_m**2
    suggested = suggested_resolution(len(data.tiles), len(data.tiles) * tile_m2)
    resolution = suggested
    if mode == "heat":
        resolution = st.select_slider(
            "Cell size (H3 resolution)",
            RESOLUTIONS,
            value=suggested,
            key=f"resolution-{suggested}",
            help="8: about 0.7 km² a cell; 9: 0.1 km²; 10: 0.015 km²; 11: 0.002 km². Smaller cells hold fewer tiles.",
        )
    opacity = st.slider("Opacity of damage", 0.1, 1.0, 0.65, 0.05, key="opacity", disabled=mode == "scene")
    scene = st.toggle(
        "Scene below", value=True, key="scene", disabled=data.overview is None, help="The imagery itself, in grey."
    )
    if data.overview is None:
        st.caption("The scene's picture is not in the scenes folder; the damage is shown without it.")
    truth = False
    if data.truth is not None:
        truth = st.toggle(
            markup.KNOWN_WORDS.capitalize(),
            key="truth",
            help="The program that drew this scene knows which tiles it damaged. No real scene has this.",
        )
    return Look(mode, scene, opacity, truth), resolution


def drawable_cells(data: MapData, resolution: int) -> Cells:
    """The cells of a resolution, or of the finest one whose cells a browser can still draw."""
    assessment = data.assessment
    for each in range(resolution, min(RESOLUTIONS) - 1, -1):
        cells = resources.cells(assessment.id, assessment.tiles_done, assessment.state, each)
        if len(cells.ids) <= MAX_CELLS:
            break
    if cells.resolution != resolution:
        st.info(f"Resolution {resolution} has too many cells to draw; this is {cells.resolution}.")
    return cells


def ranking(data: MapData, cells: Cells, mode: Mode) -> tuple[str, ...]:
    """The places to look at first, by cell name or tile index."""
    if mode == "heat":
        return worst_cells(cells)
    return tuple(map(str, worst_tiles(data.tiles))) if mode == "tiles" else ()


def draw(data: MapData, cells: Cells, look: Look, places: tuple[str, ...], picked: str) -> Clicked | None:
    """Draw the map and give what is clicked on it, or chosen from the ranking (`picked` is that widget's key)."""
    if look.mode == "tiles" and len(data.tiles) > MAX_FOOTPRINTS:
        st.caption(
            f"{len(data.tiles):,} tiles: shown as a picture that cannot be clicked. Click a cell of the heatmap."
        )
    key = f"map-{data.assessment.id}"
    found = place(st.session_state.get(picked), cells, look.mode)
    if found is None:
        found = clicked(st.session_state.get(key), data.tiles, cells, look.mode)
    st.pydeck_chart(
        damage_map(content(data, cells, found, places, look.mode), look),
        height=PHONE_HEIGHT_PX if on_phone() else MAP_HEIGHT_PX,
        on_select=lambda: st.session_state.update({picked: None}),
        selection_mode="single-object",
        key=key,
        alt=f"Map of damage in {data.assessment.scene_name}",
    )
    return found


def place(name: str | None, cells: Cells, mode: Mode) -> Clicked | None:
    """A place of the ranking as if it were clicked."""
    if name is None:
        return None
    if mode == "heat":
        return Clicked(name, cells.tiles_of(name))
    return Clicked("", np.array([int(name)]))


def ring_of(name: str, data: MapData, cells: Cells, mode: Mode) -> Ring:
    """The outline of a place of the ranking."""
    if mode == "heat":
        return rings_of(data, cells)[name]
    return tuple((lon, lat) for lon, lat in data.corners[int(name)].tolist())


def rings_of(data: MapData, cells: Cells) -> dict[str, Ring]:
    """The outlines of the cells."""
    assessment = data.assessment
    return resources.rings(assessment.id, assessment.tiles_done, assessment.state, cells.resolution)


def content(data: MapData, cells: Cells, found: Clicked | None, places: tuple[str, ...], mode: Mode) -> MapContent:
    """All that may be drawn, with a ring around what is clicked."""
    return MapContent(
        bounds=data.bounds,
        tiles=data.tiles,
        corners=data.corners,
        cells=cells,
        rings=tuple(rings_of(data, cells).values()),
        scene=data.overview,
        hatch=data.hatch,
        states=data.states_picture,
        truth=data.truth,
        ring=ring_of(found.cell or str(found.tiles[0]), data, cells, mode) if found is not None else (),
        ranked=tuple(ring_of(name, data, cells, mode) for name in places),
        on_phone=on_phone(),
    )


def on_phone() -> bool:
    """What the browser says of itself: Streamlit does not tell the width of a window."""
    return "Mobi" in (st.context.headers.get("User-Agent") or "")


if __name__ == "__main__":
    page()
