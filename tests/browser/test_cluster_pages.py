"""What a person on duty does with the dashboard of a cluster: Models and Serving in a real browser."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from builders_cluster_pages import ApiServer, an_inference_model, api_server
from builders_engines import RunningEngine, three_engines
from dashboard_process import TIMEOUT_MS, dashboard, is_here

MISSING = {
    "reason": "ModelNotFound",
    "message": "s3://models/roads has no folder 7; it has 5 and 6.",
    "nextStep": "upload version 7 to s3://models/roads/7, or name one that is there in spec.model.versions",
}
IMAGE = {
    "reason": "ImageNotFound",
    "message": "registry.example/ovms:2026.9 is not in the registry (pod flood-6c1b9f0a3e-x7k2p on node-3).",
    "nextStep": "correct spec.engineVersion; known are 2025.0 to 2026.3",
}


@dataclass(frozen=True)
class ClusterSite:
    """A dashboard, the API server that it asks, and the three engines that it watches."""

    url: str
    server: ApiServer
    engines: dict[str, RunningEngine]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSite]:  # type: ignore[override]
    """The dashboard with a cluster to ask."""
    home = tmp_path_factory.mktemp("cluster-home")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ATALAYA_", "KUBE"))}
    with three_engines(tmp_path_factory.mktemp("models")) as engines, api_server(home / "account") as server:
        server.models = the_models()
        urls = ",".join(one.target.url for one in engines.values())
        told = {"ATALAYA_HOME": str(home), "ATALAYA_METRICS_URLS": urls, "ATALAYA_KUBECONFIG": str(server.kubeconfig())}
        with dashboard(home, keep | told) as url:
            yield ClusterSite(url, server, dict(engines))


def the_models() -> list[dict[str, object]]:
    revision = {
        "name": "haiti-damage-0b5c2d9e1f",
        "version": "3",
        "device": "cpu",
        "image": "openvino/model_server:2026.3",
        "verdict": "Serving",
    }
    where = {
        "kserveV2": "haiti-damage.relief.svc:9000",
        "tensorflowServing": "haiti-damage.relief.svc:8500",
        "metrics": ":8000/metrics",
    }
    return [
        an_inference_model("haiti-damage", revisions=[revision], endpoints=where),
        an_inference_model("shelters", engine="tensorflow"),
        an_inference_model("roads", ready=False, progressing=False, **MISSING),
        an_inference_model("flood", ready=False, progressing=False, **IMAGE),
        an_inference_model("bridges", ready=False, engine="atalaya"),
    ]


@pytest.fixture
def page(browser: Browser, site: ClusterSite) -> Iterator[Page]:  # type: ignore[override]
    """A fresh page in which nothing but this machine is asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    foreign: list[str] = []
    context.on("request", lambda request: None if is_here(request.url) else foreign.append(request.url))
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    yield opened
    context.close()
    assert foreign == []


def picture(page: Page, name: str) -> None:
    """Keep a picture for whoever wants to look, where ATALAYA_TEST_PICTURES names a folder."""
    if folder := os.environ.get("ATALAYA_TEST_PICTURES"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_what_needs_somebody_stands_first_with_the_next_step(page: Page, site: ClusterSite) -> None:
    page.goto(f"{site.url}/models")
    expect(page.get_by_text("⚠ 2 need you")).to_be_visible()
    expect(page.get_by_text("2 of 5 ready")).to_be_visible()
    alerts = page.get_by_test_id("stAlert")
    expect(alerts).to_have_count(3)
    expect(alerts.first).to_contain_text("relief/flood · ImageNotFound")
    expect(alerts.nth(1)).to_contain_text("Next: upload version 7 to s3://models/roads/7")
    expect(alerts.nth(2)).to_contain_text("Getting ready: relief/bridges")
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    picture(page, "models")


def test_a_chosen_model_tells_all_and_stays_chosen(page: Page, site: ClusterSite) -> None:
    page.goto(f"{site.url}/models")
    box = page.get_by_test_id("stSelectbox")
    box.locator("input").click()
    page.get_by_role("option", name="relief/haiti-damage").click()
    expect(page.get_by_role("heading", name="Ready: relief/haiti-damage")).to_be_visible()
    expect(page.get_by_role("cell", name="haiti-damage.relief.svc:9000")).to_be_visible()
    expect(page.get_by_role("cell", name="haiti-damage-0b5c2d9e1f", exact=True)).to_be_visible()
    picture(page, "model")
    page.wait_for_timeout(6000)  # the list refreshes by itself
    expect(page.get_by_role("heading", name="Ready: relief/haiti-damage")).to_be_visible()


def test_a_phone_reads_it_without_scrolling_sideways(browser: Browser, site: ClusterSite) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    try:
        phone = context.new_page()
        phone.set_default_timeout(TIMEOUT_MS)
        phone.goto(f"{site.url}/models")
        expect(phone.get_by_text("⚠ 2 need you")).to_be_visible()
        expect(phone.get_by_role("columnheader", name="Condition")).to_be_visible()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        picture(phone, "models-phone")
    finally:
        context.close()


def test_serving_shows_all_three_engines_and_what_one_does_not_tell(page: Page, site: ClusterSite) -> None:
    for engine in site.engines.values():
        engine.call()  # before its first request TensorFlow Serving tells nothing at all
    page.goto(f"{site.url}/serving")
    expect(page.get_by_role("heading", name=re.compile("^m"))).to_have_count(3)
    for _ in range(4):
        for engine in site.engines.values():
            engine.call(3)
        page.wait_for_timeout(2000)
    expect(page.get_by_text("Not told by TensorFlow Serving: images/s, in queue, in flight.")).to_be_visible()
    p95 = page.get_by_test_id("stMetric").filter(has_text="p95")
    expect(p95).to_have_count(3)
    for index in range(3):
        expect(p95.nth(index)).to_contain_text(re.compile(r"\d ms"))
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(8)
    picture(page, "engines")


def test_a_cluster_that_goes_away_leaves_what_it_said(page: Page, site: ClusterSite) -> None:
    page.goto(f"{site.url}/models")
    expect(page.get_by_text("2 of 5 ready")).to_be_visible()
    site.server.status = 503
    expect(page.get_by_text("Below is what it said")).to_be_visible()
    expect(page.get_by_text("2 of 5 ready")).to_be_visible()
    picture(page, "models-away")
    site.server.status = 200
    expect(page.get_by_text("Below is what it said")).to_have_count(0)
