"""What a person sees of the dashboard's map: Chromium draws it, without a graphics card."""

import io

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
TIMEOUT_MS = 90_000
FIRST_FRAMES_MS = 3_000


def picture_of_the_map(url: str) -> np.ndarray:
    """What Chromium draws, when it has drawn the count and the map."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        expect(page.get_by_text("damaged tiles expected")).to_be_visible(timeout=TIMEOUT_MS)
        chart = page.get_by_test_id("stDeckGlJsonChart")
        expect(chart.locator("canvas").first).to_be_visible(timeout=TIMEOUT_MS)
        page.wait_for_timeout(FIRST_FRAMES_MS)
        shot = chart.screenshot()
        browser.close()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
