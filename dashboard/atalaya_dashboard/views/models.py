"""The models page: every InferenceModel of the cluster, and for each that is not ready why, and what to do."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.cluster_models import ClusterModel
from atalaya_dashboard.errors import ClusterUnreadable
from atalaya_dashboard.views import resources

COLUMNS = ("Model", "Namespace", "Engine", "Device", "Version", "Ready", "Reason")


def page() -> None:
    """The whole page; everything below the title refreshes by itself."""
    st.html(markup.STYLE)
    st.markdown("## Models")
    models()


@st.fragment(run_every=5.0)
def models() -> None:
    """The cluster's answer, or why there is none."""
    try:
        found = resources.cluster_models()
    except ClusterUnreadable as error:
        st.error(markup.plain(str(error)), icon=":material/error:")
        return
    if found is None:
        st.info("These pages run outside a cluster; `kubectl get im` lists its models.", icon=":material/cloud_off:")
    elif not found:
        st.info("The cluster has no InferenceModel. `kubectl apply -f MODEL.yaml` makes one.")
    else:
        told(found)


def told(found: Sequence[ClusterModel]) -> None:
    """What is wrong first, then all in a table."""
    waiting = [one for one in found if not one.is_ready]
    st.caption(f"{len(found) - len(waiting)} of {len(found)} ready")
    for one in waiting:
        step = f"  \n**Next:** {markup.plain(one.next_step)}" if one.next_step else ""
        st.warning(f"**{one.namespace}/{one.name}: {one.reason}** {markup.plain(one.message)}{step}")
    rows = [(one.name, one.namespace, one.engine, one.device, one.version, one.ready, one.reason) for one in found]
    st.dataframe([dict(zip(COLUMNS, row, strict=True)) for row in rows], hide_index=True, width="stretch")


if __name__ == "__main__":
    page()
