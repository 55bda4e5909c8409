"""The models page: every InferenceModel of the cluster, those that need somebody first, with why and what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from atalaya_dashboard import markup, model_words
from atalaya_dashboard.cluster_models import ClusterModel, State
from atalaya_dashboard.cluster_watch import ClusterState
from atalaya_dashboard.model_words import SIGNS
from atalaya_dashboard.views import resources

CARDS = 8  # so many are told in full above the table
FIRST_ANSWER_SECONDS = 6.0
NO_MODEL = "The cluster has no InferenceModel. `kubectl apply -f MODEL.yaml` makes one."


def page() -> None:
    """The whole page; everything below the title refreshes by itself."""
    st.html(markup.STYLE + model_words.STYLE)
    st.markdown("## Models")
    models()


@st.fragment(run_every=5.0)
def models() -> None:
    """The cluster's last answer, or why there is none."""
    watch = resources.cluster_watch()
    if watch is None:
        return  # outside a cluster the page is not offered
    state = watch.state(FIRST_ANSWER_SECONDS)
    if state.error:
        failed(state)
    if state.at is None:
        if not state.error:
            st.info("Waiting for the cluster's first answer …")
        return
    if state.models:
        listed(state.models)
    else:
        st.info(NO_MODEL)


def failed(state: ClusterState) -> None:
    """The cluster does not tell; what it told before stays, with its age."""
    old = ""
    if state.at is not None:
        old = f" Below is what it said {model_words.duration(datetime.now(UTC).timestamp() - state.at)} ago."
    st.error(markup.plain(state.error) + old, icon=":material/cloud_off:")


def listed(found: Sequence[ClusterModel]) -> None:
    """What is wrong first, then all in a table, then one in full."""
    st.markdown(model_words.headline(found))
    waiting = [one for one in found if not one.is_ready]
    for one in waiting[:CARDS]:
        card(one)
    if len(waiting) > CARDS:
        st.caption(f"{len(waiting) - CARDS} more are not ready; they stand first in the table.")
    now = datetime.now(UTC)
    wide = {name: st.column_config.TextColumn(width="medium") for name in model_words.LONG}
    rows = [model_words.row(one, now) for one in found]
    st.dataframe(rows, hide_index=True, width="stretch", column_config=wide)
    by_name = {str(one): one for one in found}
    picked = st.selectbox("Look at one model", list(by_name), key="looked-at")
    if picked in by_name:
        st.markdown(f"##### {SIGNS[by_name[picked].state]}: {picked}")
        details(by_name[picked])


def card(one: ClusterModel) -> None:
    """A model that is not ready: why, and what to do."""
    told = f"**{SIGNS[one.state]}: {one} · {one.reason}**  \n{markup.plain(one.message)}"
    if one.next_step:
        told += f"  \n**Next:** {markup.plain(one.next_step)}"
    if one.state == State.NEEDS_YOU:
        st.error(told, icon=":material/error:")
    else:
        st.info(told, icon=":material/hourglass_top:")


def details(one: ClusterModel) -> None:
    """All that its status says."""
    st.markdown(markup.plain(f"{one.reason}: {one.message}"))
    if one.next_step:
        st.markdown(f"**Next:** {markup.plain(one.next_step)}")
    parts = [model_words.conditions(one), model_words.revisions(one), model_words.endpoints(one)]
    for part in filter(None, parts):
        st.html(part)
    st.caption(f"Its events too: `kubectl describe im {one.name} -n {one.namespace}`")


if __name__ == "__main__":
    page()
