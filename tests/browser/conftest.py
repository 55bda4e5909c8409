"""A real dashboard process and a real Chromium in which nothing but this machine can be reached."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

import builders_dashboard
from builders_dashboard import (
    FIJI,
    SCENE_COLS,
    SCENE_ROWS,
    FakeServer,
    Site,
    a_geotiff,
    a_town,
    a_truth,
    an_assessed_town,
)
from dashboard_process import TIMEOUT_MS, dashboard, is_here

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="session")
def metrics_url() -> Iterator[str]:
    """A server's metrics over real HTTP; each reading finds new requests."""
    with FakeServer().over_http((0.004, 37), (0.02, 3)) as url:
        yield url


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, metrics_url: str) -> Iterator[Site]:
    """The dashboard, with something to show."""
    home = tmp_path_factory.mktemp("home")
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ATALAYA_")}
    env = keep | {"ATALAYA_HOME": str(home), "ATALAYA_METRICS_URLS": metrics_url}
    town = an_assessed_town(home, a_town(30, 30))
    a_truth(home, town)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("CRS", "LEFT", "TOP"), FIJI, strict=True):
            patch.setattr(builders_dashboard, name, value)
        across = an_assessed_town(home, a_town(30, 30), name="synthetic-island")
    tiff = a_geotiff(home / "synthetic-block.tif", SCENE_ROWS, SCENE_COLS)
    done = subprocess.run(
        [sys.executable, "-m", "atalaya", "assess", str(tiff), "--json"], env=env, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    scene = json.loads(done.stdout)["assessment"]
    with dashboard(home, env) as url:
        yield Site(url, home, town.id, scene, across.id)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, which draws without a graphics card."""
    expect.set_options(timeout=TIMEOUT_MS)  # its own default is 5 s, too short for a busy machine
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A fresh page; the test fails when it asked for anything that is not on this machine."""
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 900})
    foreign: list[str] = []

    def only_here(route: Route) -> None:
        if is_here(route.request.url):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    context.route("**/*", only_here)
    opened = context.new_page()
    opened.on("websocket", lambda socket: None if is_here(socket.url) else foreign.append(socket.url))
    opened.set_default_timeout(TIMEOUT_MS)
    yield opened
    context.close()
    assert foreign == []
