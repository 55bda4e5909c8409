"""The assess page: a GeoTIFF in, its map out. The work is done by `atalaya assess`, a process of its own."""

import os
from pathlib import Path

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.data import models
from atalaya_dashboard.jobs import AssessOptions, Job
from atalaya_dashboard.uploads import save_upload
from atalaya_dashboard.views import resources
from atalaya_spec.errors import AtalayaError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HERE, SERVER = "On this machine", "By the running server"


def page() -> None:
    """The whole page: the form, or the assessment that runs."""
    st.html(markup.STYLE)
    st.markdown("## Assess a scene")
    job = resources.jobs().current
    with st.container(width=820):
        if job is None:
            form()
        elif job.state == "running":
            running()
        else:
            ended(job)


def form() -> None:
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
        path = st.text_input("Or the path of a file on this machine (nothing is copied)", key="path")
    left, right = st.columns(2)
    name = left.selectbox("Model", names, key="model")
    where = HERE
    if resources.settings().endpoint:
        where = right.radio("Compute", [HERE, SERVER], key="where", horizontal=True)
    if st.button("Assess", type="primary", icon=":material/play_arrow:", disabled=not (upload or path.strip())):
        try:
            scene = (
                save_upload(upload, upload.name, resources.settings().paths.scenes) if upload else Path(path.strip())
            )
        except AtalayaError as error:
            st.error(markup.plain(str(error)))
            return
        endpoint = resources.settings().endpoint if where == SERVER else ""
        job = resources.jobs().start(AssessOptions(scene, name, endpoint), os.environ)
        st.session_state["mine"] = id(job)
        st.rerun()


@st.fragment(run_every=0.7)
def running() -> None:
    """The progress of the assessment that runs; when it ends, the whole page is drawn again."""
    job = resources.jobs().current
    if job is None or job.state != "running":
        st.rerun()
        return
    progress = job.progress
    st.markdown(f"**{markup.plain(job.options.scene.name)}** with {job.options.model}")
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


def ended(job: Job) -> None:
    """Where to go from an assessment that ended: to its map, or to what went wrong."""
    name = markup.plain(job.options.scene.name)
    if job.state == "done":
        found = job.assessment_id
        if st.session_state.pop("mine", None) == id(job):
            resources.jobs().clear()
            st.session_state["notes"] = job.warnings
            st.switch_page("views/map.py", query_params={"assessment": found} if found else None)
        st.success(f"{name} is assessed.")
        st.page_link("views/map.py", label="Open its map", query_params={"assessment": found} if found else None)
    elif job.state == "cancelled":
        st.info(
            f"The assessment of {name} was cancelled. What was done is kept: assess the same file "
            "again and it goes on from there."
        )
    else:
        st.error(f"{name} could not be assessed: {markup.plain(job.message)}", icon=":material/error:")
    if st.button("Assess another scene"):
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
