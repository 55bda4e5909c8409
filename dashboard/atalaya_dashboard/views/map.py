"""The map page: choose an assessment, see its damage over the scene, click, download."""

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.cells import RESOLUTIONS, Cells, suggested_resolution
from atalaya_dashboard.charts import MAX_CELLS, MAX_FOOTPRINTS, Look, MapContent, Mode, cell_ring, damage_map
from atalaya_dashboard.data import MapData, is_synthetic
from atalaya_dashboard.selection import Clicked, clicked
from atalaya_dashboard.views import downloads, live, panel, resources
from atalaya_serving.store import Assessment
from atalaya_spec.errors import AtalayaError

MODES: dict[Mode, str] = {"heat": "Heatmap", "tiles": "Tiles", "scene": "Scene"}
MAP_HEIGHT_PX = 620


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
    found = resources.store().assessments()
    if not found:
        empty()
        return
    with st.sidebar:
        assessment = chosen(found)
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


def chosen(found: Sequence[Assessment]) -> Assessment:
    """The assessment of the address (`?assessment=`), or the one chosen here before, or the newest.

    The address follows the choice, so that it can be handed on.
    """
    by_id = {assessment.id: assessment for assessment in found}
    asked, session = st.query_params.get("assessment", ""), st.session_state
    if asked in by_id and session.get("shown") != asked:
        session["assessment"] = asked
    if session.get("assessment") not in by_id:
        session["assessment"] = session["shown"] if session.get("shown") in by_id else found[0].id
    words = labels(found)
    picked = st.selectbox("Assessment", list(by_id), format_func=lambda name: words[name], key="assessment")
    if asked and asked not in by_id:
        st.warning(f"There is no assessment {markup.plain(asked)}; this is another one.")
    session["shown"] = st.query_params["assessment"] = picked
    st.caption(provenance(by_id[picked]))
    return by_id[picked]


def label(assessment: Assessment) -> str:
    """One line in the list of assessments."""
    mark = "synthetic: " if is_synthetic(assessment) and not assessment.scene_name.startswith("synthetic") else ""
    state = "" if assessment.state == "complete" else f" ({assessment.state})"
    return f"{mark}{assessment.scene_name}{state}, {assessment.model} v{assessment.version}"


def labels(found: Sequence[Assessment]) -> dict[str, str]:
    """By id, words that no two assessments share: Streamlit tells choices apart by what they show."""
    plain = {assessment.id: label(assessment) for assessment in found}
    often = Counter(plain.values())
    return {
        each.id: plain[each.id]
        + (f", {each.created_at:%d %b %H:%M} ({each.id[:6]})" if often[plain[each.id]] > 1 else "")
        for each in found
    }


def provenance(assessment: Assessment) -> str:
    """Who said so, and when."""
    scene, model = markup.plain(assessment.scene_name), markup.plain(assessment.model)
    return f"{scene}: assessed by {model} version {assessment.version} on {assessment.created_at:%d %B %Y, %H:%M} UTC"


def show(data: MapData) -> None:
    """One assessment."""
    if not len(data.tiles):
        st.warning(state_words(data) or "This assessment has no tiles yet; wait a moment and reload the page.")
        return
    with st.sidebar:
        look, resolution = controls(data)
        downloads.offer(data)
    if words := state_words(data):
        st.warning(words, icon=":material/warning:")
    for note in st.session_state.pop("notes", ()):
        st.warning(markup.plain(note), icon=":material/info:")
    cells = drawable_cells(data, resolution)
    left, right = st.columns([0.72, 0.28], gap="medium")
    with left:
        st.html(markup.count(data))
        found = draw(data, cells, look)
        st.html(markup.legend(look.mode))
    with right:
        live.strip()
        st.divider()
        panel.show(data, cells, found, look.mode)


def state_words(data: MapData) -> str:
    """What to know of an assessment that did not end well, or has not ended."""
    assessment = data.assessment
    done = f"{assessment.tiles_done:,} of {assessment.tiles_total:,} tiles"
    if assessment.state == "failed":
        reason = markup.plain(assessment.message)
        return f"This assessment failed after {done}: {reason} The map shows what was done before."
    if assessment.state == "running":
        return f"This assessment is not finished: {done}. The map shows what is done; reload the page for more."
    return ""


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
    return Look(mode, scene, opacity), resolution


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


def draw(data: MapData, cells: Cells, look: Look) -> Clicked | None:
    """Draw the map and give what is clicked."""
    if look.mode == "tiles" and len(data.tiles) > MAX_FOOTPRINTS:
        st.caption(
            f"{len(data.tiles):,} tiles: shown as a picture that cannot be clicked. Click a cell of the heatmap."
        )
    key = f"map-{data.assessment.id}"
    found = clicked(st.session_state.get(key), data.tiles, cells, look.mode)
    deck = damage_map(content(data, cells, found), look)
    st.pydeck_chart(
        deck,
        height=MAP_HEIGHT_PX,
        on_select="rerun",
        selection_mode="single-object",
        key=key,
        alt=f"Map of damage in {data.assessment.scene_name}",
    )
    return found


def content(data: MapData, cells: Cells, found: Clicked | None) -> MapContent:
    """All that may be drawn, with a ring around what is clicked."""
    ring: tuple[tuple[float, float], ...] = ()
    if found is not None:
        corners = data.tiles.corners[found.tiles[0]].tolist()
        ring = cell_ring(found.cell) if found.cell else tuple((lon, lat) for lon, lat in corners)
    return MapContent(data.bounds, data.tiles, cells, data.overview, data.hatch, data.states_picture, ring)


if __name__ == "__main__":
    page()
