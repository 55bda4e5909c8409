"""What all viewers share, made once a process: the store, the metrics' history, the running assessment, loaded maps."""

import os

import streamlit as st

from atalaya_dashboard.cells import Cells, cells_of
from atalaya_dashboard.cluster_access import KUBECONFIG, is_told_of_a_cluster
from atalaya_dashboard.cluster_models import ClusterModels
from atalaya_dashboard.cluster_watch import ClusterWatch
from atalaya_dashboard.collector import Collector, Target
from atalaya_dashboard.data import MapData, load_map
from atalaya_dashboard.jobs import JobBoard
from atalaya_dashboard.placement import Ring, cell_rings, wrapped
from atalaya_dashboard.prometheus import PrometheusWatch
from atalaya_dashboard.settings import Settings
from atalaya_dashboard.watched import Watched
from atalaya_serving.store import Assessment, Store, TileState

LIST_SECONDS = 10


@st.cache_resource
def settings() -> Settings:
    """The environment, read once."""
    return Settings.from_env(os.environ)


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The store. Raises StoreError; a failure is not kept, so the next run tries again."""
    return Store.open(settings().paths.store_url)


@st.cache_resource(show_spinner=False)
def collector() -> Collector:
    """The one thread that asks the servers."""
    addresses, cluster = [Target(url) for url in settings().metrics_urls], cluster_watch()
    return Collector(lambda: [*addresses, *(cluster.targets() if cluster else ())]).start()


@st.cache_resource(show_spinner=False)
def cluster_watch() -> ClusterWatch | None:
    """The one thread that asks the cluster; None outside one."""
    if not is_told_of_a_cluster(os.environ):
        return None
    # Pods have addresses inside the cluster only, and need not be asked where a Prometheus is.
    is_inside = not os.environ.get(KUBECONFIG)
    with_pods = is_inside and not settings().prometheus_url
    return ClusterWatch(lambda: ClusterModels.from_env(os.environ), with_pods=with_pods).start()


@st.cache_resource(show_spinner=False)
def prometheus() -> PrometheusWatch | None:
    """The one thread that asks a Prometheus; None where none is named."""
    url = settings().prometheus_url
    return PrometheusWatch(url).start() if url else None


def watched() -> list[Watched]:
    """All that tells of models: the named addresses, the cluster's pods or a Prometheus."""
    asked = prometheus()
    return [*collector().sources(), *([asked.source()] if asked else [])]


@st.cache_resource(show_spinner=False)
def jobs() -> JobBoard:
    """The one assessment that may run."""
    return JobBoard()


def assessments(asked: str = "") -> list[Assessment]:
    """Every assessment, newest first, as it was some seconds ago: thousands take most of a second to read.

    One that is `asked` for and not known yet is looked for anew. Raises StoreError.
    """
    found = _listed()
    if not found or (asked and all(each.id != asked for each in found)):
        _listed.clear()
        found = _listed()
    return found


@st.cache_resource(show_spinner=False, ttl=LIST_SECONDS)
def _listed() -> list[Assessment]:
    return store().assessments()


@st.cache_resource(show_spinner="Reading the assessment …", max_entries=4)
def map_data(assessment_id: str, tiles_done: int, state: str) -> MapData:  # noqa: ARG001 - the key: more rows, new map
    """One assessment as it is now."""
    return load_map(store(), assessment_id, settings().paths.scenes)


@st.cache_resource(show_spinner="Gathering tiles into cells …", max_entries=8)
def cells(assessment_id: str, tiles_done: int, state: str, resolution: int) -> Cells:
    """One assessment's cells at one resolution."""
    data = map_data(assessment_id, tiles_done, state)
    center = data.corners.mean(axis=1)
    center[:, 0] = wrapped(center[:, 0])
    return cells_of(center, data.tiles.probability, data.tiles.state == TileState.DAMAGED, resolution)


@st.cache_resource(show_spinner=False, max_entries=8)
def rings(assessment_id: str, tiles_done: int, state: str, resolution: int) -> dict[str, Ring]:
    """The outlines of those cells by their names."""
    outline = map_data(assessment_id, tiles_done, state).outline
    names = cells(assessment_id, tiles_done, state, resolution).ids
    return dict(zip(names, cell_rings(names, outline), strict=True))
