"""The map's layers, from data alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atalaya_dashboard.cells import cells_of
from atalaya_dashboard.colours import FEW, heat, ramp
from atalaya_dashboard.data import load_map
from atalaya_dashboard.deck import Look, MapContent, Mode, damage_map, view_of
from atalaya_dashboard.placement import cell_rings
from atalaya_dashboard.scene_folder import Truth
from atalaya_serving.store import Store
from builders_dashboard import a_town, an_assessed_town


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> MapContent:
    """A small town, ready to be drawn."""
    home: Path = tmp_path_factory.mktemp("home")
    assessment = an_assessed_town(home, a_town(20, 20))
    with Store.open(f"sqlite:///{home / 'store.db'}") as store:
        data = load_map(store, assessment.id, home / "scenes")
    tiles = data.tiles
    cells = cells_of(tiles.center, tiles.probability, tiles.state == 2, 9)
    pictures = {"scene": data.overview, "hatch": data.hatch, "states": data.states_picture}
    return MapContent(data.bounds, tiles, data.corners, cells, cell_rings(cells.ids, data.outline), **pictures)


def spec(content: MapContent, look: Look) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(damage_map(content, look).to_json())
    return made


def layers(content: MapContent, look: Look) -> dict[str, dict[str, Any]]:
    return {layer["id"]: layer for layer in spec(content, look)["layers"]}


@pytest.mark.parametrize("mode", ["heat", "tiles", "scene"])
def test_the_map_asks_nothing_from_the_network(content: MapContent, mode: Mode) -> None:
    text = damage_map(content, Look(mode)).to_json()
    assert "http" not in text
    made = json.loads(text)
    assert made.get("mapProvider") is None
    assert made["mapStyle"] == "__MAP_STYLE__"  # left unset: None and "" both ask a CDN
    for layer in made["layers"]:
        if "image" in layer:
            assert layer["image"].startswith("data:image/")


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        pytest.param(Look("heat"), ["scene", "not-assessed", "cells", "cell-outlines", "few"], id="heat"),
        pytest.param(
            Look("heat", scene=False), ["not-assessed", "cells", "cell-outlines", "few"], id="heat-without-scene"
        ),
        pytest.param(Look("tiles"), ["scene", "states", "tiles"], id="tiles"),
        pytest.param(Look("scene"), ["scene"], id="scene"),
    ],
)
def test_each_view_has_its_layers(content: MapContent, look: Look, expected: list[str]) -> None:
    assert list(layers(content, look)) == expected


def test_a_cell_is_coloured_by_its_share_and_grey_when_it_has_few_tiles(content: MapContent) -> None:
    drawn = {cell["id"]: cell for cell in layers(content, Look("heat"))["cells"]["data"]}
    cells = content.cells
    assert cells.few.any()
    assert cells.enough.any()
    for index, name in enumerate(cells.ids):
        told, colour = drawn[name]["t"], drawn[name]["c"]
        if cells.few[index]:
            assert colour[:3] == list(FEW)
            assert "too few" in told
        elif cells.enough[index]:
            assert colour == heat(cells.share[index : index + 1])[0].tolist()
            assert f"n = {cells.assessed[index]}" in told


def test_a_click_leaves_the_colours_as_the_legend_says(content: MapContent) -> None:
    """Streamlit repaints `getFillColor` of a layer with a selection; ours is out of its reach."""
    for mode, name in (("heat", "cells"), ("tiles", "tiles")):
        layer = layers(content, Look(mode))[name]  # type: ignore[arg-type]
        assert layer["pickable"] is True
        assert layer["stroked"] is False, "lines make a click slow without a graphics card"
        assert "getFillColor" not in layer
        assert "getFillColor" in layer["_subLayerProps"]["fill"]


def test_tiles_say_their_state_and_why_they_were_not_assessed(content: MapContent) -> None:
    drawn = layers(content, Look("tiles"))["tiles"]["data"]
    assert len(drawn) == 400
    told = {(tile["r"], tile["k"]): tile["t"] for tile in drawn}
    assert told[(19, 19)] == "not assessed: nodata"
    assert any(words.startswith("damaged, probability 0.") for words in told.values())


def test_too_many_footprints_are_shown_as_a_picture_only(content: MapContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atalaya_dashboard.deck.MAX_FOOTPRINTS", 399)
    assert list(layers(content, Look("tiles"))) == ["scene", "states"]


def test_a_cell_with_few_tiles_has_a_sign_and_not_only_a_colour(content: MapContent) -> None:
    signs = layers(content, Look("heat"))["few"]
    assert {each["n"] for each in signs["data"]} == {"?"}
    assert len(signs["data"]) == content.cells.few.sum() > 0


def test_what_was_clicked_has_a_ring(content: MapContent) -> None:
    ring = content.rings[0]
    marked = replace(content, ring=ring)
    white, black = layers(marked, Look("heat"))["clicked"]["data"]
    assert white["p"] == black["p"]
    assert len(white["p"]) == len(ring)
    assert white["w"] > black["w"]


def test_the_places_to_look_at_first_are_numbered_and_let_clicks_through(content: MapContent) -> None:
    rings = tuple(content.rings[:2])
    ranks = layers(replace(content, ranked=rings), Look("heat"))["ranks"]
    assert [each["n"] for each in ranks["data"]] == ["1", "2"]
    assert ranks["pickable"] is False
    lon, lat = ranks["data"][0]["p"]
    assert min(x for x, _ in rings[0]) < lon < max(x for x, _ in rings[0])
    assert min(y for _, y in rings[0]) < lat < max(y for _, y in rings[0])


def test_known_damage_is_drawn_as_outlines_and_only_when_asked_for(content: MapContent) -> None:
    square = ((-72.4, 18.5), (-72.3, 18.5), (-72.3, 18.6))
    known = replace(content, truth=Truth((square,), known=400))
    assert "known-damage" not in layers(known, Look("heat"))
    drawn = layers(known, Look("heat", truth=True))["known-damage"]
    assert (drawn["filled"], drawn["pickable"]) == (False, False)
    assert len(drawn["data"]) == 2, "a light line below the coloured one, to be seen on every ground"


def test_cells_end_where_the_scene_ends(content: MapContent) -> None:
    west, south, east, north = content.bounds
    drawn = [point for cell in layers(content, Look("heat"))["cells"]["data"] for point in cell["p"]]
    longitudes, latitudes = np.array(drawn).T
    assert west - 1e-5 <= longitudes.min() < longitudes.max() <= east + 1e-5
    assert south - 1e-5 <= latitudes.min() < latitudes.max() <= north + 1e-5


def test_the_antimeridian_is_no_edge_of_the_map(content: MapContent) -> None:
    (view,) = spec(content, Look())["views"]
    assert view["repeat"] is True


def test_the_view_does_not_depend_on_what_is_shown(content: MapContent) -> None:
    views = [spec(content, Look(mode))["initialViewState"] for mode in ("heat", "tiles", "scene")]  # type: ignore[arg-type]
    assert views[0] == views[1] == views[2]


def test_the_view_holds_the_whole_scene() -> None:
    view = view_of((-72.4, 18.5, -72.3, 18.6))
    degrees_a_pixel = 360 / 512 / 2**view.zoom
    assert 0.1 / degrees_a_pixel <= 760
    assert view.longitude == pytest.approx(-72.35)
    assert view.latitude == pytest.approx(18.55, abs=0.001)


def test_a_phone_sees_the_whole_scene_too() -> None:
    view = view_of((-72.4, 18.5, -72.3, 18.6), (350, 560))
    assert 0.1 / (360 / 512 / 2**view.zoom) <= 350


def test_intact_places_let_the_scene_through() -> None:
    clear, opaque = heat(np.array([0.01, 0.9]))[:, 3]
    assert clear < 40
    assert opaque == 255


def test_the_ramp_gets_lighter_all_the_way() -> None:
    """What makes it readable without colour vision: lightness alone tells the order."""
    luma = ramp(np.linspace(0, 1, 50)).astype(float) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luma) > 0).all()
