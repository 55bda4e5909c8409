"""Runs the pages as Streamlit does, without a browser."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.cluster_watch import ClusterWatch
from atalaya_dashboard.collector import Collector
from atalaya_dashboard.command import APP
from atalaya_dashboard.prometheus import PrometheusWatch
from dashboard_pages import Run

SETTINGS = (
    "ATALAYA_STORE_URL", "ATALAYA_SCENES", "ATALAYA_METRICS_URLS", "ATALAYA_ENDPOINT", "ATALAYA_PROMETHEUS_URL",
    "ATALAYA_KUBECONFIG", "ATALAYA_NAMESPACE", "KUBERNETES_SERVICE_HOST",
)  # fmt: skip


def started(start: Callable[..., Any], made: list[Any], one: Any) -> Any:
    """Start a thread's owner, and remember it so that it is stopped."""
    made.append(one)
    return start(one)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs one page with a home of its own; every shared thing is made anew."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATALAYA_HOME", str(tmp_path))
    made: list[Collector | ClusterWatch | PrometheusWatch] = []
    for kind in (Collector, ClusterWatch, PrometheusWatch):
        begin = partial(started, kind.start, made)
        monkeypatch.setattr(kind, "start", lambda self, begin=begin: begin(self))
    st.cache_resource.clear()
    st.cache_data.clear()

    def page(name: str, prepare: Callable[[AppTest], None] | None = None, **env: str) -> AppTest:
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        at = AppTest.from_file(str(APP), default_timeout=60)
        if prepare:
            prepare(at)
        return at.run() if name == "map" else at.switch_page(f"views/{name}.py").run()

    yield page
    for one in made:
        one.stop()
    st.cache_resource.clear()
