"""Makes a picture of a running dashboard: `screenshot.py http://127.0.0.1:8501 docs/images/map.png`.

`--show Tiles` and `--click 0.4,0.45` (shares of the map's width and height) do what an analyst would do first.
Requests to anywhere but this machine are refused, and make it fail.
"""

import argparse
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, sync_playwright
from playwright.sync_api import TimeoutError as NotYet

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
MAP = '[data-testid="stDeckGlJsonChart"] canvas'
TIMEOUT_MS = 90_000


def main() -> int:
    """Take the picture."""
    given = arguments()
    foreign: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": given.width, "height": given.height})
        page.set_default_timeout(TIMEOUT_MS)
        page.route("**/*", lambda route: only_here(route, foreign))
        page.goto(given.url)
        if given.map:
            prepare(page, given)
        else:
            page.wait_for_timeout(given.wait_ms)
        given.file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=given.file)
        browser.close()
    if foreign:
        print(f"the page asked for: {', '.join(sorted(set(foreign)))}", file=sys.stderr)
    return 1 if foreign else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="A picture of a running dashboard.")
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--no-map", dest="map", action="store_false", help="the page has no map: only wait")
    parser.add_argument("--show", default="Heatmap", help="Heatmap, Tiles or Scene")
    parser.add_argument("--click", default="", help="where to click on the map: X,Y as shares, like 0.4,0.45")
    parser.add_argument("--width", type=int, default=1500)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--wait-ms", type=int, default=6000, help="time for the layers to be drawn")
    return parser.parse_args()


def only_here(route: Route, foreign: list[str]) -> None:
    """Let this machine's requests through, and remember the others."""
    parts = urlsplit(route.request.url)
    if parts.scheme in {"data", "blob"} or parts.hostname in {"127.0.0.1", "localhost"}:
        route.continue_()
    else:
        foreign.append(route.request.url)
        route.abort()


def prepare(page: Page, given: argparse.Namespace) -> None:
    """Wait for the map, choose the view, click."""
    try:
        page.locator(MAP).first.wait_for(state="visible")
    except NotYet:
        sys.exit(f"{given.url} shows no map: assess a scene first, or give --no-map")
    if given.show != "Heatmap":
        page.get_by_test_id("stButtonGroup").get_by_text(given.show, exact=True).click()
    page.wait_for_timeout(given.wait_ms)
    if given.click:
        x, y = (float(part) for part in given.click.split(","))
        box = page.locator(MAP).first.bounding_box()
        assert box is not None
        opened = page.get_by_role("heading", name="Tile row")
        for _ in range(10):  # a busy machine may miss a click
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            page.wait_for_timeout(given.wait_ms)
            if opened.is_visible():
                break


if __name__ == "__main__":
    sys.exit(main())
