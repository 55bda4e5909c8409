"""The pages as Streamlit runs them, without a browser."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from atalaya_dashboard.collector import Collector
from atalaya_dashboard.command import APP
from atalaya_dashboard.jobs import AssessOptions, Job
from atalaya_dashboard.ranking import worst_cells
from atalaya_dashboard.views import resources
from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT
from atalaya_serving.store import Store
from builders_dashboard import FakeServer, a_geotiff, a_town, a_truth, an_assessed_town

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


def group(at: AppTest, label: str) -> Any:
    """A row of buttons of which one may be chosen."""
    return next(each for each in at.get("button_group") if each.label == label)


@pytest.fixture
def metrics_url() -> Iterator[str]:
    """A real HTTP endpoint with our metrics."""
    server = FakeServer()
    server.answer(0.004, times=20)
    with server.over_http((0.004, 20)) as url:
        yield url


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
    assert layer_names(at) == ["scene", "not-assessed", "cells", "cell-outlines", "ranks"]


def test_a_real_scene_is_not_called_synthetic(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6), name="leogane")
    assert "ynthetic" not in words(run("map"))


def test_the_view_and_the_scene_below_can_be_chosen(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(12, 12))
    at = run("map")
    group(at, "Show").set_value("tiles").run()
    assert layer_names(at) == ["scene", "states", "tiles", "ranks"]
    at.toggle(key="scene").set_value(False).run()
    assert layer_names(at) == ["states", "tiles", "ranks"]


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
    second = an_assessed_town(tmp_path, a_town(5, 6), name="second")
    at = run("map", lambda at: at.query_params.update({"assessment": first.id}))
    assert at.selectbox(key="assessment").value == first.id
    at.selectbox(key="of-scene").select("second").run()
    assert at.selectbox(key="assessment").value == second.id
    assert at.query_params["assessment"] == second.id, "the address follows"
    at.switch_page("views/serving.py").run()
    at.switch_page("views/map.py").run()
    assert at.selectbox(key="assessment").value == second.id, "the choice is kept over pages"
    gone = run("map", lambda at: at.query_params.update({"assessment": "gone"}))
    assert "There is no assessment gone" in words(gone)


def test_two_assessments_of_one_scene_can_be_told_apart(run: Run, tmp_path: Path) -> None:
    whole = an_assessed_town(tmp_path, a_town(5, 5))
    part = an_assessed_town(
        tmp_path, a_town(5, 5), id="of-an-area", parameters={"area": "sha256:1", "bands": [3, 2, 1]}
    )
    at = run("map", lambda at: at.query_params.update({"assessment": whole.id}))
    assert len(at.selectbox(key="of-scene").options) == 1
    shown = at.selectbox(key="assessment")
    assert sorted(shown.options) == [
        "haiti-damage v1 · 22 Nov 14:30 · 25 tiles",
        "haiti-damage v1 · 22 Nov 14:30 · 25 tiles · bands 3,2,1 · only an area",
    ]
    other = next(words for words in shown.options if "area" in words)
    at = shown.select(other).run()
    assert at.selectbox(key="assessment").value == part.id
    assert "bands 3,2,1, only an area" in words(at)


def test_two_scenes_of_one_name_can_be_told_apart(run: Run, tmp_path: Path) -> None:
    made = {an_assessed_town(tmp_path, a_town(5, cols), name="twice").id for cols in (5, 6)}
    at = run("map")
    shown = at.selectbox(key="of-scene")
    assert len(set(shown.options)) == 2
    seen = {shown.set_value(digest).run().selectbox(key="assessment").value for digest in scene_digests(tmp_path)}
    assert seen == made


def scene_digests(home: Path) -> list[str]:
    with Store.open(f"sqlite:///{home / 'store.db'}") as store:
        return [scene.digest for scene in store.scenes()]


def test_a_failed_assessment_says_why_and_shows_what_was_done(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(5, 5), state="failed", message="the disk is full; free space.")
    at = run("map")
    assert "failed after 25 of 25 tiles: the disk is full; free space." in words(at)
    assert layer_names(at)


def test_an_unfinished_assessment_shows_its_progress_and_that_it_stands_still(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assessment = an_assessed_town(tmp_path, a_town(5, 5), state="running", tiles_total=100)
    at = run("map")
    (bar,) = at.get("progress")
    assert (bar.proto.text, bar.proto.value) == ("Not finished: 25 of 100 tiles are done.", 25)
    assert "Nothing new" not in words(at)
    monkeypatch.setattr("atalaya_dashboard.views.follow.STALLED_AFTER_SECONDS", -1.0)
    assert "the same options again: it goes on from here" in words(at.run())
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.end(assessment.id, "complete")
    assert not at.run().get("progress")


def test_an_assessment_that_has_no_tile_yet_shows_its_progress(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(5, 5), state="running", tiles_total=100, tiles_done=1)
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("DELETE FROM tiles")
        database.execute("UPDATE assessments SET tiles_done = 0")
    database.close()
    at = run("map")
    assert not at.exception
    assert at.get("progress")[0].proto.text == "Not finished: 0 of 100 tiles are done."


def test_the_warnings_of_an_assessment_are_on_its_map_and_beside_its_download(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6), warnings=("the scene is *coarser* than the model", "no band is named"))
    at = run("map")
    assert [each.value for each in at.warning] == ["the scene is \\*coarser\\* than the model", "no band is named"]
    beside = [each.value for each in at.caption if "Hand on with the file" in each.value]
    assert len(beside) == 2


def test_the_interval_says_what_it_assumes(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(6, 6))
    assert INTERVAL_CAVEAT in words(run("map"))


def test_the_truth_of_a_synthetic_scene_can_be_laid_over_its_map(run: Run, tmp_path: Path) -> None:
    a_truth(tmp_path, an_assessed_town(tmp_path, a_town(12, 12)))
    at = run("map")
    assert "known-damage" not in layer_names(at), "only when asked for"
    assert "known damage (synthetic)" not in words(at)
    assert at.toggle(key="truth").label == "Known damage (synthetic)"
    at.toggle(key="truth").set_value(True).run()
    assert layer_names(at)[-2:] == ["known-damage", "ranks"]
    assert "known damage (synthetic)" in words(at), "the legend says what the outlines are"


def test_a_scene_that_is_not_synthetic_has_no_truth_to_show(run: Run, tmp_path: Path) -> None:
    a_truth(tmp_path, an_assessed_town(tmp_path, a_town(12, 12), name="leogane"))
    assert [each.key for each in run("map").toggle] == ["scene"]


def test_the_most_damaged_places_are_numbered_and_can_be_opened_without_a_mouse(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(20, 20))
    at = run("map")
    numbers = next(layer for layer in deck(at)["layers"] if layer["id"] == "ranks")["data"]
    pills = group(at, "Most damaged cells")
    told = [option.content.split(": ") for option in pills.proto.options]
    assert [number for number, _ in told] == [drawn["n"] for drawn in numbers]
    assert len(numbers) > 1
    shares = [int(share.rstrip("%")) for _, share in told]
    assert shares == sorted(shares, reverse=True)
    worst = worst_cells(resources.cells(*the_only_map(), 9))[0]
    at = pills.set_value(worst).run()
    assert "Chosen cell" in words(at)
    assert f"**{shares[0]}%** of n =" in words(at)
    assert "clicked" in layer_names(at), "it has its ring"


def the_only_map() -> tuple[str, int, str]:
    (assessment,) = resources.assessments()
    return assessment.id, assessment.tiles_done, assessment.state


def test_where_nothing_stands_out_no_place_is_numbered(run: Run, tmp_path: Path) -> None:
    town = a_town(12, 12)
    town.probability[:], town.reason[:] = 0.03, ""
    an_assessed_town(tmp_path, town)
    at = run("map")
    assert "ranks" not in layer_names(at)
    assert "No cell stands out" in words(at)


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
