"""What all viewers share, made once a process: the store, the metrics' history, the running assessment, loaded maps."""

import os

import streamlit as st

from atalaya_dashboard.cells import Cells, cells_of
from atalaya_dashboard.collector import Collector
from atalaya_dashboard.data import MapData, load_map
from atalaya_dashboard.jobs import JobBoard
from atalaya_dashboard.placement import wrapped
from atalaya_dashboard.settings import Settings
from atalaya_serving.store import Assessment, Store, TileState


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
    return Collector(settings().metrics_urls).start()


@st.cache_resource(show_spinner=False)
def jobs() -> JobBoard:
    """The one assessment that may run."""
    return JobBoard()


def assessments() -> list[Assessment]:
    """Every assessment, newest first. Raises StoreError."""
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
