"""The assess page: a GeoTIFF in, its map out. The work is done by `atalaya assess`, a process of its own."""

import os
from dataclasses import dataclass

import streamlit as st
from streamlit.components.v2 import component
from streamlit.runtime.uploaded_file_manager import UploadedFile

from atalaya_dashboard import markup, uploads
from atalaya_dashboard.data import models
from atalaya_dashboard.jobs import AssessOptions, Job
from atalaya_dashboard.views import resources
from atalaya_spec.errors import AtalayaError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HERE, SERVER = "On this machine", "By the running server"
REGION_TYPES = ["geojson", "json", "gpkg", "zip", "tif", "tiff"]
REGION_HELP = "Polygons as GeoJSON, GeoPackage or a zipped shapefile; or a GeoTIFF whose pixels are not 0 there."


@dataclass(frozen=True)
class Extra:
    """What may be given besides the scene and the model."""

    area: UploadedFile | None
    mask: UploadedFile | None
    bands: str
    scale: str


def page() -> None:
    """The whole page: the assessment that runs or how the last one ended, and the form.

    The form stays while one runs, so that after a refusal nothing has to be given again.
    """
    st.html(markup.STYLE)
    st.markdown("## Assess a scene")
    job = resources.jobs().current
    is_running = job is not None and job.state == "running"
    with st.container(width=820):
        if is_running:
            running()
        elif job is not None:
            ended(job)
        form(is_running)


def form(is_running: bool) -> None:
    """What to assess, with which model."""
    names = models(resources.settings().model_repository)
    if not names:
        st.error(
            f"There is no model in {resources.settings().model_repository}: a model is NAME/VERSION/ there. "
            "Set ATALAYA_MODEL_REPO to a model repository and start the pages again."
        )
        return
    upload = st.file_uploader(
        "A GeoTIFF with a coordinate reference system", type=["tif", "tiff"], key="upload", max_upload_size=None
    )
    path = ""
    if st.get_option("server.address") in LOOPBACK:
        path = st.text_input("Or the path of a file on this machine (nothing is copied)", key="path").strip()
    left, right = st.columns(2)
    name = left.selectbox("Model", names, key="model")
    where = HERE
    if resources.settings().endpoint:
        where = right.radio("Compute", [HERE, SERVER], key="where", horizontal=True)
    with st.expander("Options: area, mask, bands, values"):
        extra = options()
    if st.button("Assess", type="primary", icon=":material/play_arrow:", disabled=is_running or not (upload or path)):
        try:
            start(upload or path, name, resources.settings().endpoint if where == SERVER else "", extra)
        except AtalayaError as error:
            st.error(markup.plain(str(error)))


def options() -> Extra:
    """Area, mask, bands and values, as `atalaya assess` takes them."""
    left, right = st.columns(2)
    area = left.file_uploader("Assess only inside this area", type=REGION_TYPES, key="area", help=REGION_HELP)
    mask = right.file_uploader("Do not assess below this mask", type=REGION_TYPES, key="mask", help=REGION_HELP)
    left.caption("Tiles outside the area are shown as not assessed.")
    right.caption("As cloud or water: these tiles are unknown, not safe.")
    bands = left.text_input(
        "Bands", key="bands", placeholder="3,2,1", help="Band numbers from 1: red,green,blue, or one for grey."
    )
    scale = right.text_input(
        "Values that become black and white",
        key="scale",
        placeholder="0,3000",
        help="LO,HI. Without it, the 2nd and 98th percentile of the scene; 8-bit values stay as they are.",
    )
    return Extra(area, mask, bands.strip(), scale.strip())


def start(given: UploadedFile | str, model: str, endpoint: str, extra: Extra) -> None:
    """Keep what was uploaded and start the work; what is refused before any tile goes again. Raises UploadRejected."""
    scenes = resources.settings().paths.scenes
    scene = uploads.named(given) if isinstance(given, str) else uploads.save_scene(given, given.name, scenes)
    area, mask = region(extra.area), region(extra.mask)
    kept = [each for each in (scene, area, mask) if each is not None]
    job = resources.jobs().start(
        AssessOptions(
            scene.path,
            model,
            endpoint,
            area.path if area else None,
            mask.path if mask else None,
            extra.bands,
            extra.scale,
        ),
        os.environ,
        on_refused=lambda: uploads.discard(kept, scenes),
    )
    st.session_state["mine"] = id(job)
    st.rerun()


def region(upload: UploadedFile | None) -> uploads.Kept | None:
    """An area or a mask, kept. Raises UploadRejected."""
    return None if upload is None else uploads.save_region(upload, upload.name, resources.settings().paths.scenes)


@st.fragment(run_every=0.7)
def running() -> None:
    """The progress of the assessment that runs; when it ends, the whole page is drawn again."""
    job = resources.jobs().current
    if job is None or job.state != "running":
        st.rerun()
        return
    progress = job.progress
    st.markdown(f"**{markup.plain(job.options.scene.name)}** with {markup.plain(job.options.model)}")
    if not progress.total:
        st.progress(0.0, text="Reading the scene and loading the model …")
    else:
        st.progress(progress.share, text=f"{progress.done:,} of {progress.total:,} tiles")
        left, right, _ = st.columns([0.2, 0.2, 0.6])
        left.metric("tiles/s", f"{progress.tiles_per_second:,.0f}")
        right.metric("time left", duration(progress.eta_seconds))
    if st.button("Cancel", icon=":material/stop:"):
        job.cancel()
        st.caption("Stopping …")


def is_shown() -> bool:
    """Whether the browser has drawn the end of the assessment: it says so once, by a run of the page.

    Until then it may still ask for a run of `running`. Such a request would be answered after a switch of pages, as one
    of this page, and the browser would then throw away the map that it has just drawn (docs/decisions/0408).
    """
    says_so = component("atalaya-is-shown", js="export default ({ setTriggerValue }) => setTriggerValue('shown', true)")
    return bool(says_so(key="is-shown", on_shown_change=lambda: None).shown)


def ended(job: Job) -> None:
    """Above the form, until dismissed or until the next one starts: where the map is, or what went wrong."""
    name, found = markup.plain(job.options.scene.name), job.assessment_id
    if job.state == "done":
        if st.session_state.get("mine") == id(job) and is_shown():
            del st.session_state["mine"]
            resources.jobs().clear()
            st.switch_page("views/map.py", query_params={"assessment": found} if found else None)
        st.success(f"{name} is assessed.")
        st.page_link("views/map.py", label="Open its map", query_params={"assessment": found} if found else None)
    elif job.state == "cancelled":
        st.info(
            f"The assessment of {name} was cancelled. What was done is kept: assess the same file with the same "
            "options again and it goes on from there."
        )
    else:
        st.error(f"{name} could not be assessed: {markup.plain(job.message)}", icon=":material/error:")
    if st.button("Dismiss", icon=":material/close:"):
        resources.jobs().clear()
        st.rerun()


def duration(seconds: float | None) -> str:
    """A time left, for people."""
    if seconds is None:
        return "…"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    page()
