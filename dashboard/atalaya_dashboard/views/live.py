"""Live latency, small, for the side of the map. It refreshes alone: the map is not drawn again."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.metrics import Lately, ModelKey
from atalaya_dashboard.overview import urgency
from atalaya_dashboard.views import resources

WINDOW_SECONDS = 60.0
NO_SERVER = "No server is being watched. Start one with `atalaya up`, which also tells these pages where it is."
NO_POD = "No pod of a model answers in this cluster; the page Models says why."
IDLE = "No request in the last minute; latency is since the server started."
LIVE = "Last minute, measured on the server."
LIVE_OF_PROMETHEUS = "Last two minutes, measured on the server."
MOST = 6


def latest() -> list[tuple[ModelKey, Lately]]:
    """Every model of every server that answers, over the last minute."""
    found = []
    for source in resources.watched():
        for key in () if source.is_silent else source.models():
            now = source.lately(key, WINDOW_SECONDS)
            if now is not None:
                found.append((key, now))
    return found


@st.fragment(run_every=2.0)
def strip() -> None:
    """Latency, rate, errors and queue of each model over the last minute; or in words, why there is none."""
    st.markdown("##### Live latency")
    sources = resources.watched()
    if not sources:
        st.caption(NO_SERVER if resources.cluster_watch() is None else NO_POD)
        return
    for source in sources:
        if source.error:
            st.caption(f":material/error: {markup.plain(source.name)}: {markup.plain(source.error)}. {source.advice}")
    found = latest()
    if found:
        st.html(markup.strip(sorted(found, key=lambda one: urgency(*one))[:MOST]))
        if len(found) > MOST:
            st.caption(f"{len(found) - MOST} more models are on the page Serving.")
        if words := since(found):
            st.caption(words)
    elif not any(source.error for source in sources):
        st.caption("Waiting for the first readings …")


def since(found: Sequence[tuple[ModelKey, Lately]]) -> str:
    """Of which time the figures are; nothing where there are none."""
    asked = [now for _, now in found if not now.never_asked]
    if not asked:
        return ""
    if any(now.idle for now in asked):
        return IDLE
    return LIVE_OF_PROMETHEUS if any(now.window.seconds > 2 * WINDOW_SECONDS - 1 for now in asked) else LIVE
