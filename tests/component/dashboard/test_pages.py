"""The pages as Streamlit runs them, without a browser."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.collector import Collector
from atalaya_dashboard.command import APP
from atalaya_dashboard.jobs import AssessOptions, Job
from atalaya_dashboard.views import resources
from builders_dashboard import FakeServer, a_geotiff, a_town, an_assessed_town

Run = Callable[..., AppTest]


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


def words(at: AppTest) -> str:
    """All that the page says."""
    assert not at.exception, at.exception
    kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.get("html"))
    texts = [
        getattr(element, "value", None) or getattr(element.proto, "body", "") for kind in kinds for element in kind
    ]
    return "\n".join(str(text) for text in texts)


def deck(at: AppTest) -> dict[str, Any]:
    """The map that the page draws."""
    (chart,) = at.get("deck_gl_json_chart")
    found: dict[str, Any] = json.loads(chart.proto.json)
    return found


def layer_names(at: AppTest) -> list[str]:
    return [layer["id"] for layer in deck(at)["layers"]]


@pytest.fixture
def metrics_url() -> Iterator[str]:
    """A real HTTP endpoint with our metrics."""
    server = FakeServer()
    server.answer(0.004, times=20)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(0.004, times=20)
            content = server.text().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/metrics"
        http.shutdown()


def test_an_empty_store_says_what_to_do_next(run: Run) -> None:
    told = words(run("map"))
    assert "No scene has been assessed yet" in told
    assert "atalaya assess" in told
    assert "atalaya demo" in told


def test_a_store_that_cannot_be_opened_is_said_in_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is not a database at all" * 100)
    told = words(run("map"))
    assert "The store cannot be read" in told
    assert "ATALAYA_STORE_URL" in told.replace("\\", "")
    assert "Traceback" not in told


def test_a_store_that_goes_away_is_said_and_found_again(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(4, 4))
    at = run("map")
    assert layer_names(at)
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("ALTER TABLE assessments RENAME TO gone")
    assert "The store cannot be read" in words(at.run())
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("ALTER TABLE gone RENAME TO assessments")
    database.close()
    assert layer_names(at.run())


def test_a_name_from_outside_is_shown_as_it_is(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(4, 4), name="![x](http://elsewhere/y.png)<b>")
    told = words(run("map"))
    assert "![x](" not in told
    assert "\\!\\[x\\]" in told


def test_the_map_tells_the_count_with_its_interval_and_what_is_missing(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(20, 20))
    at = run("map")
    told = words(at)
    assert "damaged tiles expected" in told
    assert "90% interval" in told
    assert "tiles not assessed" in told
    assert "nodata" in told
    assert "Synthetic scene" in told
    assert layer_names(at) == ["scene", "not-assessed", "cells", "cell-outlines"]


def test_a_real_scene_is_not_called_synthetic(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6), name="leogane")
    assert "ynthetic" not in words(run("map"))


def test_the_view_and_the_scene_below_can_be_chosen(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(12, 12))
    at = run("map")
    at.get("button_group")[0].set_value("tiles").run()
    assert layer_names(at) == ["scene", "states", "tiles"]
    at.toggle(key="scene").set_value(False).run()
    assert layer_names(at) == ["states", "tiles"]


def test_another_resolution_draws_other_cells_in_the_same_view(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(20, 20))
    at = run("map")
    before = deck(at)
    at.select_slider[0].set_value(8).run()
    after = deck(at)
    assert after["initialViewState"] == before["initialViewState"]
    cells = [next(each["data"] for each in made["layers"] if each["id"] == "cells") for made in (before, after)]
    assert len(cells[1]) < len(cells[0])


def test_the_address_chooses_the_assessment(run: Run, tmp_path: Path) -> None:
    first = an_assessed_town(tmp_path, a_town(5, 5), name="first")
    an_assessed_town(tmp_path, a_town(5, 6), name="second")
    at = run("map", lambda at: at.query_params.update({"assessment": first.id}))
    assert at.selectbox(key="assessment").value == first.id
    other = next(name for name in at.selectbox(key="assessment").options if "second" in name)
    at.selectbox(key="assessment").select(other).run()
    assert at.query_params["assessment"] != [first.id], "the address follows"
    at.switch_page("views/serving.py").run()
    at.switch_page("views/map.py").run()
    assert at.selectbox(key="assessment").value != first.id, "the choice is kept over pages"
    gone = run("map", lambda at: at.query_params.update({"assessment": "gone"}))
    assert "There is no assessment gone" in words(gone)


def test_two_assessments_of_one_name_can_be_told_apart(run: Run, tmp_path: Path) -> None:
    both = {an_assessed_town(tmp_path, a_town(5, cols), name="twice").id for cols in (5, 6)}
    at = run("map")
    shown = at.selectbox(key="assessment")
    assert len(set(shown.options)) == 2
    picked = {shown.value}
    other = next(name for name in shown.options if shown.value[:6] not in name)
    picked.add(shown.select(other).run().selectbox(key="assessment").value)
    assert picked == both


@pytest.mark.parametrize(
    ("state", "expected"), [("running", "is not finished"), ("failed", "failed after")], ids=["running", "failed"]
)
def test_an_assessment_that_did_not_end_well_says_so(run: Run, tmp_path: Path, state: str, expected: str) -> None:
    an_assessed_town(tmp_path, a_town(5, 5), state=state, message="the disk is full.")
    assert expected in words(run("map"))


def test_a_scene_without_its_picture_still_has_a_map(run: Run, tmp_path: Path) -> None:
    assessment = an_assessed_town(tmp_path, a_town(6, 6))
    (tmp_path / "scenes" / assessment.scene_digest.removeprefix("sha256:") / "overview.png").unlink()
    at = run("map")
    assert "scene" not in layer_names(at)
    assert "not in the scenes folder" in words(at)


def test_without_a_server_the_pages_say_how_to_start_one(run: Run) -> None:
    for page in ("map", "serving"):
        assert "atalaya up" in words(run(page))


def test_a_server_that_does_not_answer_is_named(run: Run) -> None:
    run("serving", ATALAYA_METRICS_URLS="http://127.0.0.1:9/metrics")
    resources.collector().collect_once()
    told = words(run("serving"))
    assert "http://127.0.0.1:9/metrics: nothing listens there" in told
    assert "atalaya up" in told


def test_serving_shows_the_last_minute_of_each_model(run: Run, metrics_url: str) -> None:
    run("serving", ATALAYA_METRICS_URLS=metrics_url)
    collector = resources.collector()
    for _ in range(3):
        collector.collect_once()
    at = run("serving")
    assert "haiti-damage v1" in words(at)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["p50"].endswith(" ms")
    assert float(shown["requests/s"].replace(",", "")) > 0
    assert set(shown) == {"p50", "p95", "p99", "requests/s", "images/s", "errors/s", "in queue", "in flight"}
    assert "p95" in words(run("map")), "the map page has the live strip"


def test_assess_offers_the_models_of_the_repository(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models" / "haiti-damage" / "1").mkdir(parents=True)
    at = run("assess", ATALAYA_MODEL_REPO=str(tmp_path / "models"))
    assert at.selectbox(key="model").options == ["haiti-damage"]
    assert at.button[0].disabled


def test_assess_without_a_model_says_where_it_looked(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in words(run("assess", ATALAYA_MODEL_REPO=str(tmp_path / "none")))


def test_a_scene_that_cannot_be_assessed_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    scene = tmp_path / "notes.tif"
    scene.write_bytes(b"II*\x00 this is no GeoTIFF")
    at = run("assess")
    job = resources.jobs().start(AssessOptions(scene, "haiti-damage"))
    job.wait(90)
    told = words(at.run())
    assert "notes.tif could not be assessed" in told
    assert "Traceback" not in told
    at.button[0].click().run()
    assert resources.jobs().current is None


def test_a_running_assessment_can_be_watched_and_cancelled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    told = '{"event":"progress","done":30,"total":120,"tiles_per_s":15.0,"eta_s":6.0}'
    program = f"import sys, time; print('{told}', file=sys.stderr, flush=True); time.sleep(90)"
    monkeypatch.setattr("atalaya_dashboard.jobs.assess_command", lambda options: [sys.executable, "-c", program])
    at = run("assess")
    job: Job = resources.jobs().start(AssessOptions(Path("scene.tif"), "haiti-damage"))
    while not job.progress.total:
        assert job.state == "running"
    at.run()
    assert {metric.label: metric.value for metric in at.metric} == {"tiles/s": "15", "time left": "6 s"}
    at.button[0].click().run()
    job.wait(30)
    assert "was cancelled" in words(at.run())


def test_a_tile_shows_its_pixels_as_the_model_saw_them(run: Run, tmp_path: Path) -> None:
    """From a real file through `atalaya assess` to the panel's array."""
    from atalaya_dashboard.data import load_map, pixels_of

    run("map")
    scene = a_geotiff(tmp_path / "synthetic-block.tif", 3, 4)
    job = resources.jobs().start(AssessOptions(scene, "haiti-damage"))
    job.wait(120)
    assert job.state == "done", job.message
    assert job.assessment_id is not None
    data = load_map(resources.store(), job.assessment_id, tmp_path / "scenes")
    pixels = pixels_of(data, 1, 2)
    import rasterio

    with rasterio.open(scene) as file:
        assert (pixels == file.read(1)[128:256, 256:384]).all()
    assert data.overview is not None
    assert data.synthetic
