"""The entry that Streamlit runs: the frame around the pages, and nothing else."""

import os
from pathlib import Path

import streamlit as st

from atalaya_dashboard.cluster_access import is_told_of_a_cluster

ASSETS = Path(__file__).with_name("assets")

st.set_page_config(page_title="Atalaya", page_icon=ASSETS / "icon.png", layout="wide", initial_sidebar_state=330)
st.logo(ASSETS / "logo.svg", size="large")
in_a_cluster = [st.Page("views/models.py", title="Models", icon=":material/deployed_code:")]
st.navigation(
    [
        st.Page("views/map.py", title="Map", icon=":material/map:", default=True),
        st.Page("views/serving.py", title="Serving", icon=":material/monitoring:"),
        *(in_a_cluster if is_told_of_a_cluster(os.environ) else []),
        st.Page("views/assess.py", title="Assess", icon=":material/add_photo_alternate:"),
    ],
    position="top",
).run()
