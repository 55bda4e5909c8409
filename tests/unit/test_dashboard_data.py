"""What the dashboard reads from the store and the scenes folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atalaya_dashboard.data import (
    calibration_bootstrap,
    grid_outline,
    is_synthetic,
    load_map,
    models,
    pixels_of,
)
from atalaya_dashboard.errors import PixelsUnavailable
from atalaya_dashboard.grid_image import states_grid, states_picture
from atalaya_dashboard.scene_folder import overview, truth
from atalaya_dashboard.selection import clicked
from atalaya_serving.scoring.errors import ScenePixelsUnavailable
from atalaya_serving.store import AssessmentUnknown, Store
from builders_dashboard import a_town, a_truth, an_assessed_town


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def open_store(home: Path) -> Store:
    return Store.open(f"sqlite:///{home / 'store.db'}")


def test_the_count_leaves_out_what_was_not_assessed(home: Path) -> None:
    town = a_town(24, 24)
    assessment = an_assessed_town(home, town)
    with open_store(home) as store:
        data = load_map(store, assessment.id, home / "scenes")
    known = town.probability[~np.isnan(town.probability)]
    assert data.count.n == data.states.assessed == len(known)
    assert data.count.expected == pytest.approx(known.sum())
    assert data.count.low < data.count.expected < data.count.high
    assert data.states.not_assessed == 24 * 24 - len(known)
    assert dict(data.states.reasons) == {
        "nodata": int((town.reason == "nodata").sum()),
        "masked": int((town.reason == "masked").sum()),
    }
    assert data.assessed_km2 == pytest.approx(len(known) * 64 * 64 / 1e6)


def test_the_calibration_makes_the_interval_wider(home: Path) -> None:
    assessment = an_assessed_town(home, a_town(24, 24))
    plain = an_assessed_town(home, a_town(24, 24), name="plain", manifest={"name": "haiti-damage"})
    with open_store(home) as store:
        wide, narrow = (load_map(store, found.id, home / "scenes").count for found in (assessment, plain))
    assert wide.high - wide.low > narrow.high - narrow.low


@pytest.mark.parametrize(
    "manifest",
    [{}, {"calibration": None}, {"calibration": {"bootstrap": {"slopes": [1.0], "intercepts": []}}}],
    ids=["none", "null", "unequal"],
)
def test_a_manifest_without_a_usable_bootstrap_has_none(manifest: dict[str, object]) -> None:
    assert calibration_bootstrap(manifest) is None


def test_an_unknown_assessment_is_said(home: Path) -> None:
    with open_store(home) as store, pytest.raises(AssessmentUnknown):
        load_map(store, "gone", home / "scenes")


@pytest.mark.parametrize(
    ("name", "parameters", "synthetic"),
    [("synthetic-town", {}, True), ("town", {"synthetic": True}, True), ("town", {}, False)],
)
def test_a_synthetic_scene_is_known_by_its_name_or_its_parameters(
    home: Path, name: str, parameters: dict[str, object], synthetic: bool
) -> None:
    assessment = an_assessed_town(home, a_town(3, 3), name=name)
    assert is_synthetic(replace(assessment, parameters=parameters)) is synthetic


def test_the_overview_becomes_one_small_picture_in_its_place(tmp_path: Path) -> None:
    Image.new("RGBA", (4000, 3000), (90, 90, 90, 255)).save(tmp_path / "overview.png")
    (tmp_path / "overview.json").write_text(json.dumps({"bounds": [1, 2, 3, 4], "width": 4000, "height": 3000}))
    found = overview(tmp_path)
    assert found is not None
    assert found.corners == ((1, 2), (1, 4), (3, 4), (3, 2))
    assert found.url.startswith("data:image/webp;base64,")
    assert len(found.url) < 200_000


@pytest.mark.parametrize("content", [None, "{", '{"bounds": [1]}', '{"bounds": [1, 2, 3, 4]}'])
def test_a_missing_or_broken_overview_is_no_overview(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "overview.json").write_text(content)
        (tmp_path / "overview.png").write_bytes(b"no picture")
    assert overview(tmp_path) is None


def test_the_truth_is_the_outlines_of_the_damaged_tiles(home: Path) -> None:
    assessment = an_assessed_town(home, a_town(4, 5))
    found = truth(a_truth(home, assessment, damaged=3).parent, -69.0)
    assert found is not None
    assert (len(found.damaged), found.known) == (3, 20)
    with open_store(home) as store:
        corners = store.tiles(assessment.id).corners
    assert np.array(found.damaged) == pytest.approx(corners[:3])


@pytest.mark.parametrize("content", [None, "{", "[]", '{"features": [{}]}', '{"features": [{"properties": {}}]}'])
def test_a_missing_or_broken_truth_is_no_truth(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "truth.geojson").write_text(content)
    assert truth(tmp_path, 0.0) is None


def test_a_real_scene_is_never_given_a_truth(home: Path) -> None:
    assessment = an_assessed_town(home, a_town(3, 3), name="leogane")
    a_truth(home, assessment)
    with open_store(home) as store:
        assert load_map(store, assessment.id, home / "scenes").truth is None


@pytest.mark.parametrize("side", [2, 3, 12, 60])
def test_the_hatch_of_a_small_scene_has_fine_lines(side: int) -> None:
    picture = np.asarray(states_picture(np.zeros((side, side), np.uint8), with_assessed=False))
    line = picture[picture.shape[0] // 3]
    starts = int(((line[1:] != line[:-1]) & (line[1:] == line.max())).sum())
    assert 40 <= starts <= 140, "about a line every 5 to 15 pixels of the map"


def test_the_grid_lies_where_its_tiles_lie(home: Path) -> None:
    assessment = an_assessed_town(home, a_town(7, 11))
    with open_store(home) as store:
        tiles = store.tiles(assessment.id)
    bottom_left, top_left, top_right, bottom_right = grid_outline(assessment)
    last = len(tiles) - 1
    assert top_left == pytest.approx(tuple(tiles.corners[0, 0]))
    assert top_right == pytest.approx(tuple(tiles.corners[10, 1]))
    assert bottom_right == pytest.approx(tuple(tiles.corners[last, 2]))
    assert bottom_left == pytest.approx(tuple(tiles.corners[last - 10, 3]))


def test_the_picture_of_states_has_three_that_cannot_be_confused() -> None:
    grid = states_grid(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0, 1, 2], np.uint8), (2, 2))
    full = np.asarray(states_picture(grid, with_assessed=True))
    side = full.shape[0] // 2
    quarters = {
        "not assessed": full[:side, :side],
        "not damaged": full[:side, side:],
        "damaged": full[side:, :side],
        "no row yet": full[side:, side:],
    }
    inside = {name: set(np.unique(part[1:, 1:]).tolist()) for name, part in quarters.items()}  # without the outline
    assert inside["no row yet"] == {0}
    assert len(inside["not assessed"]) == 2, "a hatch has lines and ground"
    colours = [frozenset(found) for found in inside.values()]
    assert len(set(colours)) == 4
    hatch_only = np.asarray(states_picture(grid, with_assessed=False))
    assert set(np.unique(hatch_only[:, side:]).tolist()) == {0}
    assert hatch_only[:side, :side].any()


def test_a_click_is_read_back_as_tiles(home: Path) -> None:
    from atalaya_dashboard.cells import cells_of

    assessment = an_assessed_town(home, a_town(10, 10))
    with open_store(home) as store:
        tiles = store.tiles(assessment.id)
    cells = cells_of(tiles.center, tiles.probability, tiles.state == 2, 9)

    def state(layer: str, **told: object) -> dict[str, object]:
        return {"selection": {"indices": {layer: [0]}, "objects": {layer: [told]}}}

    cell = clicked(state("cells", id=cells.ids[0]), tiles, cells, "heat")
    assert cell is not None
    assert cell.cell == cells.ids[0]
    assert len(cell.tiles) == cells.assessed[0] + cells.not_assessed[0]
    tile = clicked(state("tiles", r=4, k=7), tiles, cells, "tiles")
    assert tile is not None
    assert (tiles.row[tile.tiles[0]], tiles.col[tile.tiles[0]]) == (4, 7)
    for gone in (None, {}, {"selection": {"indices": {}, "objects": {}}}, state("cells", id="8928308280fffff")):
        assert clicked(gone, tiles, cells, "heat") is None
    assert clicked(state("tiles", r=4, k=7), tiles, cells, "heat") is None, "another view shows no tiles"


def test_pixels_that_are_gone_are_told_in_words(home: Path) -> None:
    assessment = an_assessed_town(home, a_town(3, 3))
    with open_store(home) as store:
        data = load_map(store, assessment.id, home / "scenes")
    with pytest.raises(ScenePixelsUnavailable, match="synthetic-town"):
        pixels_of(data, 0, 0)
    with pytest.raises(PixelsUnavailable):
        pixels_of(replace(data, scene=None), 0, 0)


def test_models_are_those_with_a_version(tmp_path: Path) -> None:
    (tmp_path / "haiti-damage" / "2").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert models(tmp_path) == ["haiti-damage"]
    assert models(tmp_path / "gone") == []
