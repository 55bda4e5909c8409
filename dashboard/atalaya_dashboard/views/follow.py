"""An assessment that is not finished, on its map: how far it is, and whether it still moves."""

import time

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.views import resources
from atalaya_serving.store import Assessment
from atalaya_spec.errors import AtalayaError

STALLED_AFTER_SECONDS = 60.0
STALLED = (
    "Nothing new for {seconds:.0f} seconds. If it was stopped, assess the same file with the same options again: it "
    "goes on from here."
)


@st.fragment(run_every=2.0)
def follow(shown: Assessment) -> None:
    """Its progress; the page is drawn again when it ends or when asked to."""
    try:
        now = resources.store().find(shown.id)
    except AtalayaError as error:
        st.caption(f":material/error: The store does not answer: {markup.plain(str(error))}")
        return
    if now is None or now.state != "running":
        st.rerun()
        return
    share = min(now.tiles_done / now.tiles_total, 1.0) if now.tiles_total else 0.0
    left, right = st.columns([0.8, 0.2], vertical_alignment="center")
    left.progress(share, text=f"Not finished: {now.tiles_done:,} of {now.tiles_total:,} tiles are done.")
    seconds = seconds_still(now)
    if seconds > STALLED_AFTER_SECONDS:
        st.caption(STALLED.format(seconds=seconds))
    newer = now.tiles_done - shown.tiles_done
    if newer and right.button(f"Show {newer:,} more", icon=":material/refresh:", width="stretch"):
        st.rerun()


def seconds_still(now: Assessment) -> float:
    """For how long this viewer has seen no new tile."""
    seen = st.session_state.get("seen")
    if seen is None or seen[:2] != (now.id, now.tiles_done):
        seen = st.session_state["seen"] = (now.id, now.tiles_done, time.monotonic())
    return time.monotonic() - float(seen[2])
