"""What an analyst does with the dashboard, in a real browser with the network blocked."""

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect
from playwright.sync_api import TimeoutError as NotYet
from streamlit.proto.BackMsg_pb2 import BackMsg

from builders_dashboard import CRS, LEFT, SCENE_COLS, SCENE_ROWS, TILE_M, TOP, Site, a_geotiff

MAP = '[data-testid="stDeckGlJsonChart"]'
PATIENCE_SECONDS = 90


def pixels(place: Locator) -> NDArray[np.int16]:
    """What is drawn there now, [h, w, 3]."""
    return np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB"), dtype=np.int16)


def colours(picture: NDArray[np.int16]) -> int:
    """How many clearly different colours the middle of a picture has."""
    height, width, _ = picture.shape
    middle = picture[height // 4 : -height // 4, width // 4 : -width // 4] // 24
    return len(np.unique(middle.reshape(-1, 3), axis=0))


def until(true: Callable[[], bool], what: str) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not in {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.2)


def settled(place: Locator) -> NDArray[np.int16]:
    """The picture once it no longer changes."""
    last = pixels(place)

    def still() -> bool:
        nonlocal last
        before, last = last, pixels(place)
        return colours(last) > 1 and before.shape == last.shape and int(np.abs(before - last).max()) < 8

    until(still, "the map stands still")
    return last


def changed(before: NDArray[np.int16], now: NDArray[np.int16], by_more_than: int = 24) -> float:
    """The share of a picture that is clearly another; all of it when its size is."""
    return float((np.abs(before - now).max(axis=2) > by_more_than).mean()) if before.shape == now.shape else 1.0


def colour(picture: NDArray[np.int16]) -> float:
    """How far from grey a picture is."""
    return float(picture.std(axis=2).mean())


def settled_after(place: Locator, is_so: Callable[[NDArray[np.int16]], bool], what: str) -> NDArray[np.int16]:
    """The picture that stands still once something is so: what is drawn may come long after the words beside it."""
    until(lambda: is_so(pixels(place)), what)
    return settled(place)


def open_map(page: Page, site: Site, assessment: str) -> Locator:
    """Go to an assessment's map and wait until it is drawn."""
    page.goto(f"{site.url}/?assessment={assessment}")
    chart = page.locator(MAP)
    expect(chart.locator("canvas").first).to_be_visible()
    until(lambda: colours(pixels(chart)) > 3, "the map shows more than a few colours")
    return chart


def choose(page: Page, view: str) -> None:
    """Press one of Heatmap, Tiles, Scene."""
    page.get_by_test_id("stButtonGroup").get_by_text(view, exact=True).click()


def click_until(page: Page, chart: Locator, at: tuple[float, float], shown: Locator) -> None:
    """Click a place of the map (shares of its width and height) until something is shown.

    Without a graphics card a click may come before the layers do, and then hits nothing.
    """
    box = chart.bounding_box()
    assert box is not None
    x, y = box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]

    def clicked() -> bool:
        page.mouse.move(x - 3, y)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        try:
            shown.first.wait_for(state="visible", timeout=5_000)
        except NotYet:
            return False
        return True

    until(clicked, "a click opens what is there")


def test_the_map_is_drawn_and_the_heatmap_is_in_it(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.town)
    with_heat = settled_after(chart, lambda now: colour(now) > 3, "the heatmap, which is not grey")
    assert colours(with_heat) > 5
    choose(page, "Scene")
    expect(page.get_by_text("Expected share of tiles damaged")).to_have_count(0)
    without = settled_after(chart, lambda now: changed(with_heat, now, 16) > 0.2, "the heatmap covered a good part")
    assert colour(without) < colour(with_heat), "the scene is grey, the heatmap is not"


def test_the_count_and_its_interval_are_readable(page: Page, site: Site) -> None:
    open_map(page, site, site.town)
    expect(page.get_by_text("damaged tiles expected")).to_be_visible()
    expect(page.get_by_text("90% interval")).to_be_visible()
    expect(page.get_by_text("tiles not assessed")).to_be_visible()
    expect(page.get_by_text("Synthetic scene: made by a program")).to_be_visible()
    expect(page.get_by_text("not assessed: unknown")).to_be_visible()


def test_a_click_opens_the_tile_with_its_pixels(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.scene)
    heatmap = settled(chart)
    choose(page, "Tiles")
    expect(page.get_by_text("not damaged", exact=True)).to_be_visible()
    settled_after(chart, lambda now: changed(heatmap, now) > 0.05, "tiles instead of the heatmap")
    heading = page.get_by_role("heading", name="Tile row")
    click_until(page, chart, (0.5, 0.5), heading)
    row, column = (int(part.split(" ")[-1]) for part in heading.inner_text().split(","))
    assert abs(row - SCENE_ROWS / 2) <= 1
    assert abs(column - SCENE_COLS / 2) <= 1
    expect(page.get_by_text("calibrated probability")).to_be_visible()
    expect(page.get_by_text("haiti-damage version 1").last).to_be_visible()
    picture = page.get_by_test_id("stImage").locator("img")
    expect(picture).to_be_visible()
    until(lambda: picture.evaluate("image => image.naturalWidth") == 128, "the tile's own pixels are shown")


def test_a_click_opens_the_cell_with_its_tiles(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.scene)
    settled(chart)
    click_until(page, chart, (0.5, 0.5), page.get_by_role("heading", name="Chosen cell"))
    expect(page.get_by_text("tiles expected damaged").last).to_be_visible()
    expect(page.get_by_role("heading", name="Tile row")).to_be_visible()
    until(lambda: page.get_by_test_id("stImage").locator("img").count() > 3, "thumbnails of the cell's tiles")


def test_a_click_leaves_the_view_and_the_colours_as_they_were(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.scene)
    opened = settled(chart)
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.wheel(0, -400)
    before = settled_after(chart, lambda now: changed(opened, now) > 0.05, "the wheel zooms in")
    click_until(page, chart, (0.5, 0.5), page.get_by_role("heading", name="Chosen cell"))
    page.mouse.move(5, 5)
    assert changed(before, settled(chart)) < 0.05, "only the ring is new"


def test_a_scene_across_the_antimeridian_is_drawn_in_one_piece_and_can_be_clicked(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.across)
    choose(page, "Tiles")
    expect(page.get_by_text("not damaged", exact=True)).to_be_visible()
    drawn = settled_after(chart, lambda now: blue(now).mean() > 0.3, "the town fills a good part of the map")
    rows, columns = np.nonzero(blue(drawn))
    assert 0.6 < (np.ptp(columns) + 1) / (np.ptp(rows) + 1) < 1.6, "and is as wide as it is high"
    heading = page.get_by_role("heading", name="Tile row")
    for across, expected in ((0.3, range(2, 13)), (0.7, range(17, 28))):
        click_until(page, chart, (across, 0.5), heading.filter(has_text=re.compile(column_words(expected))))
    box = chart.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y, steps=5)
    page.mouse.up()
    assert blue(settled(chart)).mean() > 0.25, "dragged over the line it is still there"


def blue(picture: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where tiles are drawn that are not damaged."""
    return (picture[..., 2] - picture[..., 0] > 30) & (picture[..., 2] > 90)


def column_words(columns: range) -> str:
    """The panel's heading for one of some columns."""
    return f"column ({'|'.join(map(str, columns))})$"


def test_the_worst_place_is_opened_with_the_keyboard_alone(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.town)
    before = settled(chart)
    expect(page.get_by_test_id("stButtonGroup").filter(has_text="1: ")).to_be_visible()

    def reached() -> bool:
        page.keyboard.press("Tab")
        return bool(page.evaluate("document.activeElement.innerText.startsWith('1: ')"))

    until(reached, "the tabulator key reaches the worst place")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Chosen cell")).to_be_visible()
    after = settled_after(chart, lambda now: changed(before, now) > 0.0005, "it has its ring")
    assert changed(before, after) < 0.05, "the rest is as it was"


def test_the_known_damage_of_a_synthetic_scene_is_drawn_over_it(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.town)
    before = settled(chart)
    page.get_by_text("Known damage (synthetic)").click()
    expect(page.get_by_text("known damage (synthetic)", exact=True)).to_be_visible()

    def outlined() -> bool:
        now = pixels(chart)
        vermilion = (now[..., 0] > 170) & (now[..., 1] < 130) & (now[..., 2] < 70)
        was = (before[..., 0] > 170) & (before[..., 1] < 130) & (before[..., 2] < 70)
        return bool(vermilion.sum() > was.sum() + 200)

    until(outlined, "the outlines of what is damaged")


def test_a_phone_sees_the_count_and_the_whole_map(browser: Browser, site: Site) -> None:
    agent = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
    context = browser.new_context(viewport={"width": 390, "height": 844}, user_agent=agent)
    try:
        phone = context.new_page()
        phone.set_default_timeout(PATIENCE_SECONDS * 1000)
        chart = open_map(phone, site, site.town)
        expect(phone.get_by_text("damaged tiles expected")).to_be_visible()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, "nothing to be scrolled sideways"
        drawn = settled(chart)
        ground = np.array([0xDF, 0xE5, 0xEA])
        for edge in (drawn[40:-40, 4], drawn[40:-40, -5]):
            assert (np.abs(edge - ground).max(axis=1) < 12).mean() > 0.9, "the scene ends before the map does"
    finally:
        context.close()


def test_latency_refreshes_beside_the_map_without_drawing_it_again(page: Page, site: Site) -> None:
    chart = open_map(page, site, site.town)
    strip = page.locator(".at-strip")
    expect(strip).to_contain_text("p95")
    expect(strip).to_contain_text(" ms")
    chart.locator("canvas").first.evaluate("canvas => { canvas.marked = true; }")
    page.evaluate(
        """() => {
            window.mapChanges = 0;
            const seen = new MutationObserver(found => { window.mapChanges += found.length; });
            seen.observe(document.querySelector('[data-testid="stDeckGlJsonChart"]'), {childList: true, subtree: true});
        }"""
    )
    told = strip.inner_text()
    until(lambda: strip.inner_text() != told, "the strip shows newer numbers")
    assert chart.locator("canvas").first.evaluate("canvas => canvas.marked === true")
    assert page.evaluate("window.mapChanges") == 0


def test_serving_shows_latency_rate_and_history(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/serving")
    expect(page.get_by_role("heading", name="haiti-damage v1")).to_be_visible()
    metrics = page.get_by_test_id("stMetric")
    expect(metrics).to_have_count(8)
    expect(metrics.filter(has_text="p99")).to_contain_text("ms")
    expect(metrics.filter(has_text="requests/s")).to_contain_text(re.compile(r"requests/s\s*(?!0\.0)\d"))
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(3)


def test_an_uploaded_scene_and_its_area_land_on_the_map(page: Page, site: Site, tmp_path: Path) -> None:
    scene = a_geotiff(tmp_path / "synthetic-harbour.tif", 4, 5, seed=7)
    area = tmp_path / "area.gpkg"
    left_half = shapely.box(LEFT, TOP - 4 * TILE_M, LEFT + 3 * TILE_M, TOP)
    geopandas.GeoDataFrame(geometry=[left_half], crs=CRS).to_file(area)
    page.goto(f"{site.url}/assess")
    inputs = page.get_by_test_id("stFileUploaderDropzoneInput")
    inputs.first.set_input_files(scene)
    page.get_by_text("Options: area").click()
    inputs.nth(1).set_input_files(area)
    expect(page.get_by_text("area.gpkg")).to_be_visible()
    button = page.get_by_test_id("stBaseButton-primary")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text("synthetic-harbour: assessed by haiti-damage")).to_be_visible()
    until(lambda: "assessment=" in page.url, "the address names the assessment")
    chart = page.locator(MAP)
    expect(chart.locator("canvas").first).to_be_visible()
    until(lambda: colours(pixels(chart)) > 3, "its map is drawn")
    expect(page.get_by_text("of n = 12 assessed")).to_be_visible()
    expect(page.get_by_text("8 tiles not assessed")).to_be_visible()
    expect(page.get_by_text("only an area").first).to_be_visible()


def test_the_map_stays_although_the_browser_still_asks_how_far_the_work_is(
    page: Page, site: Site, tmp_path: Path
) -> None:
    """A slow machine or line hears such a question when it has answered already; here each one comes nine times."""

    def ask_again(page_side: WebSocketRoute) -> None:
        pages_side = page_side.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            pages_side.send(message)
            if isinstance(message, bytes) and BackMsg.FromString(message).rerun_script.is_auto_rerun:
                for _ in range(8):
                    time.sleep(0.03)
                    pages_side.send(message)

        page_side.on_message(pass_on)

    page.route_web_socket(re.compile("/_stcore/stream"), ask_again)
    page.goto(f"{site.url}/assess")
    scene = a_geotiff(tmp_path / "synthetic-quay.tif", 4, 5, seed=8)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(scene)
    page.get_by_test_id("stBaseButton-primary").click()
    expect(page.get_by_text("of n = 20 assessed")).to_be_visible()
    strip = page.locator(".at-strip")
    told = strip.inner_text()
    expect(strip).not_to_have_text(told)
    expect(page.locator(MAP).locator("canvas").first).to_be_visible()


def test_the_tiles_can_be_downloaded(page: Page, site: Site) -> None:
    open_map(page, site, site.scene)
    with page.expect_download() as started:
        page.get_by_role("button", name="Download").click()
    assert started.value.suggested_filename == "synthetic-block-haiti-damage-v1.geojson"
    features = json.loads(started.value.path().read_text())["features"]
    assert len(features) == SCENE_ROWS * SCENE_COLS
    assert {feature["properties"]["state"] for feature in features} <= {"damaged", "not_damaged"}


def test_a_file_that_is_no_geotiff_is_refused_in_words(page: Page, site: Site, tmp_path: Path) -> None:
    picture = tmp_path / "holiday.tif"
    Image.new("L", (300, 300), 90).save(picture)
    page.goto(f"{site.url}/assess")
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(picture)
    button = page.get_by_test_id("stBaseButton-primary")
    expect(button).to_be_enabled()
    button.click()
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("holiday.tif could not be assessed")
    expect(alert).to_contain_text("coordinate reference system")
    expect(alert).not_to_contain_text("Traceback")
    expect(button).to_be_enabled()
    page.get_by_role("button", name="Dismiss").click()
    expect(alert).to_have_count(0)
