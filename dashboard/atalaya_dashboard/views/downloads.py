"""What can be taken away from the map page."""

from functools import partial

import streamlit as st

from atalaya_dashboard.data import MapData
from atalaya_dashboard.exports import FORMATS, exported, file_name
from atalaya_dashboard.markup import plain
from atalaya_dashboard.views import resources


def offer(data: MapData) -> None:
    """A button to download the tiles, a row each, in the format of one's choice; the file is made on the click."""
    st.divider()
    assessment = data.assessment
    kind = st.selectbox("Download tiles as", FORMATS, format_func=lambda known: known.title, key="format")
    st.download_button(
        "Download",
        partial(exported, resources.store(), assessment, kind),
        file_name=file_name(assessment, kind),
        mime=kind.mime,
        on_click="ignore",
        icon=":material/download:",
        width="stretch",
    )
    for warning in assessment.warnings:
        st.caption(f":material/warning: Hand on with the file: {plain(warning)}")
    if data.synthetic:
        st.caption("The file holds a synthetic scene; its name says so.")
