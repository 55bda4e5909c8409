"""The assess page as Streamlit runs it."""

import sys
import time
from pathlib import Path

import pytest

from atalaya_dashboard.jobs import AssessOptions, Job
from atalaya_dashboard.views import resources
from builders_dashboard import a_geotiff
from dashboard_pages import Run, button, upload, words


def test_assess_offers_the_models_of_the_repository(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models" / "haiti-damage" / "1").mkdir(parents=True)
    at = run("assess", ATALAYA_MODEL_REPO=str(tmp_path / "models"))
    assert at.selectbox(key="model").options == ["haiti-damage"]
    assert button(at, "Assess").disabled


def test_assess_without_a_model_says_where_it_looked(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in words(run("assess", ATALAYA_MODEL_REPO=str(tmp_path / "none")))


def test_what_is_uploaded_and_chosen_reaches_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AssessOptions] = []
    monkeypatch.setattr(
        "atalaya_dashboard.jobs.assess_command",
        lambda options: (asked.append(options), [sys.executable, "-c", "import time; time.sleep(60)"])[1],
    )
    area = tmp_path / "area.geojson"
    area.write_text('{"type": "FeatureCollection", "features": []}')
    at = run("assess")
    upload(at, "upload", a_geotiff(tmp_path / "scene.tif", 1, 1))
    upload(at, "area", area)
    at.text_input(key="bands").set_value(" 3,2,1 ")
    at.text_input(key="scale").set_value("-5,300").run()
    button(at, "Assess").click().run()
    (given,) = asked
    kept = tmp_path / "scenes" / "uploads"
    assert given.scene.is_relative_to(kept)
    assert given.area is not None
    assert given.area.is_relative_to(kept)
    assert given.area.read_bytes() == area.read_bytes()
    assert (given.mask, given.bands, given.scale) == (None, "3,2,1", "-5,300")
    assert button(at, "Assess").disabled, "one at a time"
    job = resources.jobs().current
    assert job is not None
    job.cancel()
    job.wait(30)


def test_a_refused_upload_is_told_and_leaves_the_form_as_it_was_and_no_file(run: Run, tmp_path: Path) -> None:
    scene = tmp_path / "notes.tif"
    scene.write_bytes(b"II*\x00 this is no GeoTIFF")
    at = run("assess")
    upload(at, "upload", scene)
    at.text_input(key="bands").set_value("1").run()
    button(at, "Assess").click().run()
    job = resources.jobs().current
    assert job is not None
    job.wait(90)
    told = words(at.run())
    assert "notes.tif could not be assessed" in told
    assert "Traceback" not in told
    assert at.text_input(key="bands").value == "1"
    assert not button(at, "Assess").disabled, "it can be tried again"
    deadline = time.monotonic() + 30
    while any(path.is_file() for path in (tmp_path / "scenes" / "uploads").rglob("*")):
        assert time.monotonic() < deadline, "a file that is no scene is not kept"
        time.sleep(0.05)
    button(at, "Dismiss").click().run()
    assert resources.jobs().current is None
    assert "could not be assessed" not in words(at)


def test_a_running_assessment_can_be_watched_and_cancelled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = '{"event":"progress","done":30,"total":120,"tiles_per_s":15.0,"eta_s":6.0}'
    program = f"import sys, time; print('{told}', file=sys.stderr, flush=True); time.sleep(90)"
    monkeypatch.setattr("atalaya_dashboard.jobs.assess_command", lambda options: [sys.executable, "-c", program])
    at = run("assess")
    job: Job = resources.jobs().start(AssessOptions(Path("scene.tif"), "haiti-damage"))
    while not job.progress.total:
        assert job.state == "running"
    at.run()
    assert {metric.label: metric.value for metric in at.metric} == {"tiles/s": "15", "time left": "6 s"}
    button(at, "Cancel").click().run()
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
