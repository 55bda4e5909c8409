"""The map's layers and the charts, from data alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atalaya_dashboard.cells import cells_of
from atalaya_dashboard.charts import (
    Look,
    MapContent,
    Mode,
    cell_ring,
    damage_map,
    latency_chart,
    queue_chart,
    rate_chart,
    view_of,
)
from atalaya_dashboard.colours import FEW, heat, ramp
from atalaya_dashboard.data import load_map
from atalaya_dashboard.metrics import Window
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
    return MapContent(data.bounds, tiles, cells, data.overview, data.hatch, data.states_picture)


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
        pytest.param(Look("heat"), ["scene", "not-assessed", "cells", "cell-outlines"], id="heat"),
        pytest.param(Look("heat", scene=False), ["not-assessed", "cells", "cell-outlines"], id="heat-without-scene"),
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
    monkeypatch.setattr("atalaya_dashboard.charts.MAX_FOOTPRINTS", 399)
    assert list(layers(content, Look("tiles"))) == ["scene", "states"]


def test_what_was_clicked_has_a_ring(content: MapContent) -> None:
    ring = cell_ring(content.cells.ids[0])
    marked = MapContent(content.bounds, content.tiles, content.cells, ring=ring)
    white, black = layers(marked, Look("heat"))["clicked"]["data"]
    assert white["p"] == black["p"]
    assert len(white["p"]) == len(ring)
    assert white["w"] > black["w"]


def test_the_view_does_not_depend_on_what_is_shown(content: MapContent) -> None:
    views = [spec(content, Look(mode))["initialViewState"] for mode in ("heat", "tiles", "scene")]  # type: ignore[arg-type]
    assert views[0] == views[1] == views[2]


def test_the_view_holds_the_whole_scene() -> None:
    view = view_of((-72.4, 18.5, -72.3, 18.6))
    degrees_a_pixel = 360 / 512 / 2**view.zoom
    assert 0.1 / degrees_a_pixel <= 760
    assert view.longitude == pytest.approx(-72.35)
    assert view.latitude == pytest.approx(18.55, abs=0.001)


def test_the_ramp_gets_lighter_all_the_way() -> None:
    """What makes it readable without colour vision: lightness alone tells the order."""
    luma = ramp(np.linspace(0, 1, 50)).astype(float) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luma) > 0).all()


def a_window(p50: float = 0.005) -> Window:
    return Window(10, 100, {"UNAVAILABLE": 5.0}, 10, 40, p50, 0.02, 0.03, 3, 1, True)


def test_charts_hold_the_history() -> None:
    history = [(1000.0, a_window()), (1010.0, a_window(float("nan")))]
    latency = latency_chart(history).data
    assert latency.loc[(latency["quantile"] == "p95"), "ms"].tolist() == [20.0, 20.0]
    assert np.isnan(latency.loc[(latency["quantile"] == "p50"), "ms"].iloc[1])
    rate = rate_chart(history).data
    assert rate.loc[rate["kind"] == "failed", "per second"].tolist() == [0.5, 0.5]
    assert queue_chart(history).data["waiting"].tolist() == [3, 3]
    for chart in (latency_chart(history), rate_chart(history), queue_chart(history)):
        assert chart.to_dict()["mark"]
