"""Which assessment the map shows: that of the address, or the one chosen here before, or the newest."""

from collections.abc import Mapping, Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.assessments import by_scene, labels, options_of, scene_labels
from atalaya_serving.store import Assessment

ADDRESS = "assessment"
_SHOWN = "shown"


def chosen(found: Sequence[Assessment]) -> Assessment:
    """The assessment to show, newest first in `found`. The address follows the choice, so that it can be handed on."""
    by_id = {assessment.id: assessment for assessment in found}
    asked = st.query_params.get(ADDRESS, "")
    if asked not in by_id:
        shown = st.session_state.get(_SHOWN)
        current = shown if shown in by_id else found[0].id
        if asked:
            st.warning(f"There is no assessment {markup.plain(asked)}; this is another one.")
    else:
        current = asked
    picked = by_id[current]
    lists(by_scene(found), picked)
    show(picked.id)
    st.caption(provenance(picked))
    return picked


def lists(scenes: Mapping[str, Sequence[Assessment]], picked: Assessment) -> None:
    """A list of scenes, and one of the chosen scene's assessments."""
    newest = {digest: each[0].id for digest, each in scenes.items()}
    words = scene_labels(scenes)
    st.session_state["of-scene"] = picked.scene_digest
    st.selectbox(
        "Scene",
        list(scenes),
        format_func=lambda digest: words[digest],
        key="of-scene",
        on_change=lambda: show(newest[st.session_state["of-scene"]]),
    )
    of_scene = scenes[picked.scene_digest]
    told = labels(of_scene)
    st.session_state["assessment"] = picked.id
    st.selectbox(
        "Assessment",
        [each.id for each in of_scene],
        format_func=lambda key: told[key],
        key="assessment",
        on_change=lambda: show(st.session_state["assessment"]),
    )


def show(assessment_id: str) -> None:
    """Make it the one that is shown, here and in the address."""
    st.session_state[_SHOWN] = assessment_id
    if st.query_params.get(ADDRESS) != assessment_id:
        st.query_params[ADDRESS] = assessment_id


def provenance(assessment: Assessment) -> str:
    """Who said so, when, and with which choices."""
    scene, model = markup.plain(assessment.scene_name), markup.plain(assessment.model)
    when = f"{assessment.created_at:%d %B %Y, %H:%M} UTC"
    options = "".join(f", {option}" for option in options_of(assessment))
    return f"{scene}: assessed by {model} version {assessment.version} on {when}{options}"
