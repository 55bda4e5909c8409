"""Runs the pages as Streamlit does, without a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.collector import Collector
from atalaya_dashboard.command import APP
from dashboard_pages import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs one page with a home of its own; every shared thing is made anew."""
    for name in ("ATALAYA_STORE_URL", "ATALAYA_SCENES", "ATALAYA_METRICS_URLS", "ATALAYA_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATALAYA_HOME", str(tmp_path))
    made: list[Collector] = []
    start = Collector.start
    monkeypatch.setattr(Collector, "start", lambda self: (made.append(self), start(self))[1])
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
    for collector in made:
        collector.stop()
    st.cache_resource.clear()
