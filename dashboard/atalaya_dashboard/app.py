"""The entry that Streamlit runs: the frame around the pages, and nothing else."""

from pathlib import Path

import streamlit as st

ASSETS = Path(__file__).with_name("assets")

st.set_page_config(page_title="Atalaya", page_icon=ASSETS / "icon.png", layout="wide", initial_sidebar_state=330)
st.logo(ASSETS / "logo.svg", size="large")
st.navigation(
    [
        st.Page("views/map.py", title="Map", icon=":material/map:", default=True),
        st.Page("views/serving.py", title="Serving", icon=":material/monitoring:"),
        st.Page("views/assess.py", title="Assess", icon=":material/add_photo_alternate:"),
    ],
    position="top",
).run()
