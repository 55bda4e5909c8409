"""The map page as Streamlit runs it."""

import sqlite3
from pathlib import Path

import pytest

from atalaya_dashboard.ranking import worst_cells
from atalaya_dashboard.views import resources
from atalaya_serving.scoring.caveats import INTERVAL_CAVEAT
from atalaya_serving.store import Store
from builders_dashboard import a_town, a_truth, an_assessed_town
from dashboard_pages import Run, deck, group, layer_names, words


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
    assert layer_names(at) == ["scene", "not-assessed", "cells", "cell-outlines", "few", "ranks"]


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


def test_a_new_assessment_is_found_by_its_address_at_once(run: Run, tmp_path: Path) -> None:
    an_assessed_town(tmp_path, a_town(5, 5), name="first")
    at = run("map")
    new = an_assessed_town(tmp_path, a_town(5, 6), name="second")
    at.query_params["assessment"] = new.id
    assert at.run().selectbox(key="assessment").value == new.id


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
