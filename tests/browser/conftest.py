"""A real dashboard process and a real Chromium in which nothing but this machine can be reached."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

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

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
START_SECONDS = 90
TIMEOUT_MS = 90_000


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
    port = free_port()
    command = [sys.executable, "-m", "atalaya_dashboard", "--port", str(port)]
    with (home / "dashboard.log").open("w+") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, process, home / "dashboard.log")
            yield Site(url, home, town.id, scene, across.id)
        finally:
            process.terminate()
            process.wait(30)
        log.seek(0)
        said = log.read()
    assert "Traceback" not in said, said


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until Streamlit answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the dashboard did not start in {START_SECONDS} s: {log.read_text()}")


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


def is_here(url: str) -> bool:
    """Whether an address is on this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob"} or parts.hostname in {"127.0.0.1", "localhost"}
