"""Live latency, small, for the side of the map. It refreshes alone: the map is not drawn again."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.metrics import Lately, ModelKey, lately
from atalaya_dashboard.views import resources

WINDOW_SECONDS = 60.0
NO_SERVER = "No server is being watched. Start one with `atalaya up`, which also tells these pages where it is."
IDLE = "No request in the last minute; latency is since the server started."
LIVE = "Last minute, measured on the server."


def latest() -> list[tuple[ModelKey, Lately]]:
    """Every model of every server that answers, over the last minute."""
    found = []
    for source in resources.collector().sources():
        if source.error or not source.samples:
            continue
        for key in sorted(source.samples[-1].models):
            now = lately(source.samples, key, WINDOW_SECONDS)
            if now is not None:
                found.append((key, now))
    return found


@st.fragment(run_every=2.0)
def strip() -> None:
    """Latency, rate, errors and queue of each model over the last minute; or in words, why there is none."""
    st.markdown("##### Live latency")
    sources = resources.collector().sources()
    if not sources:
        st.caption(NO_SERVER)
        return
    for source in sources:
        if source.error:
            st.caption(f":material/error: {source.url}: {markup.plain(source.error)}. Is `atalaya up` running?")
    found = latest()
    if found:
        st.html(markup.strip(found))
        if words := since(found):
            st.caption(words)
    elif not any(source.error for source in sources):
        st.caption("Waiting for the first readings …")


def since(found: Sequence[tuple[ModelKey, Lately]]) -> str:
    """Of which time the figures are; nothing where there are none."""
    asked = [now for _, now in found if not now.never_asked]
    if not asked:
        return ""
    return LIVE if not any(now.idle for now in asked) else IDLE
