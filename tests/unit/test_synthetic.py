"""The synthetic town: the same for the same seed, placed in the world, with a truth that fits its pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from atalaya_serving.store import TileState, TileTable
from atalaya_serving.synthetic.scene import (
    DAMAGED_SHARE,
    GSD_M,
    TILE_PX,
    TruthTile,
    make_scene,
    read_truth,
    synthetic_tiles,
)
from atalaya_serving.synthetic.score import auroc, score_synthetic
from atalaya_serving.synthetic.town import Window, draw, plan_town
from atalaya_serving.synthetic.truth_map import write_truth_map

SIZE = 1100  # not a multiple of a tile


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory):
    return make_scene(tmp_path_factory.mktemp("scene"), seed=5, size=SIZE)


def test_a_scene_is_the_same_for_the_same_seed_and_another_for_another(scene, tmp_path: Path) -> None:
    again, other = make_scene(tmp_path / "again", 5, SIZE), make_scene(tmp_path / "other", 6, SIZE)
    assert again.path.read_bytes() == scene.path.read_bytes()
    assert again.truth == scene.truth
    assert other.path.read_bytes() != scene.path.read_bytes()


def test_a_scene_is_georeferenced_and_says_that_it_is_synthetic(scene) -> None:
    assert scene.path.name.startswith("synthetic-")
    with rasterio.open(scene.path) as opened:
        assert opened.crs.to_epsg() == 32618
        assert opened.transform.a == GSD_M == -opened.transform.e
        assert (opened.count, opened.dtypes, opened.shape) == (1, ("uint8",), (SIZE, SIZE))
        assert opened.tags()["SYNTHETIC"] == "yes"
        assert "Synthetic" in opened.tags()["TIFFTAG_IMAGEDESCRIPTION"]


def test_clouds_hide_one_corner_and_nothing_else(scene) -> None:
    with rasterio.open(scene.path) as opened:
        hidden = opened.dataset_mask() == 0
    assert hidden[-1, -1]
    assert 0.01 < hidden.mean() < 0.25
    assert not hidden[: SIZE // 2].any()
    assert not hidden[:, : SIZE // 2].any()


def test_the_truth_lies_on_the_map_where_the_scene_lies(scene, tmp_path: Path) -> None:
    told = json.loads(write_truth_map(scene.truth, tmp_path).read_text())
    assert [feature["properties"]["damaged"] for feature in told["features"]] == [t.damaged for t in scene.truth]
    with rasterio.open(scene.path) as opened:
        at = {(tile.row, tile.col): feature for tile, feature in zip(scene.truth, told["features"], strict=True)}
        for (row, col), feature in [(key, at[key]) for key in ((0, 0), (2, 5))]:
            (ring,) = feature["geometry"]["coordinates"]
            xs, ys = transform("EPSG:4326", opened.crs, *zip(*ring, strict=True))
            pixels = [opened.index(x, y, op=round) for x, y in zip(xs, ys, strict=True)]
            top, left = row * TILE_PX, col * TILE_PX
            bottom, right = top + TILE_PX, left + TILE_PX
            assert pixels == [(top, left), (bottom, left), (bottom, right), (top, right), (top, left)]


def test_truth_has_every_tile_and_survives_its_file(scene) -> None:
    side = -(-SIZE // TILE_PX)
    assert [(tile.row, tile.col) for tile in scene.truth] == [(row, col) for row in range(side) for col in range(side)]
    assert read_truth(scene.truth_path) == scene.truth
    shares = np.array([(tile.building_share, tile.destroyed_share) for tile in scene.truth])
    assert (shares[:, 1] <= shares[:, 0]).all()
    damaged = np.array([tile.damaged for tile in scene.truth])
    assert 0.05 < damaged.mean() < 0.6
    assert (damaged == (shares[:, 1] >= DAMAGED_SHARE)).all()


def test_destroyed_houses_stand_together() -> None:
    town = plan_town(7, 1536)
    destroyed = draw(town, Window(0, 0, 1536, 1536)).destroyed.reshape(12, 128, 12, 128).mean((1, 3))
    neighbours = np.corrcoef(destroyed[:, :-1].ravel(), destroyed[:, 1:].ravel())[0, 1]
    assert neighbours > 0.4  # scattered houses would be near 0


def test_windows_that_overlap_agree() -> None:
    town = plan_town(3, 1024)
    whole = draw(town, Window(256, 256, 384, 384))
    part = draw(town, Window(256 + 128, 256 + 96, 200, 200))
    inner = np.s_[128:328, 96:296]
    assert (whole.building[inner] == part.building).mean() > 0.999
    assert np.abs(whole.pixels[inner].astype(int) - part.pixels).mean() < 0.5


def test_no_drawn_pixel_is_taken_for_no_data() -> None:
    assert draw(plan_town(1, 512), Window(0, 0, 512, 512)).pixels.min() > 0


def test_tiles_are_the_same_for_the_same_seed_and_half_are_damaged() -> None:
    tiles, labels = synthetic_tiles(3, 11)
    again, _ = synthetic_tiles(3, 11)
    other, _ = synthetic_tiles(4, 11)
    assert (tiles.shape, tiles.dtype, labels.sum()) == ((11, 128, 128), np.uint8, 6)
    assert (tiles == again).all()
    assert not (tiles == other).all()
    assert len({tile.tobytes() for tile in tiles}) == 11


def test_tiles_may_have_another_size_and_may_be_none() -> None:
    assert synthetic_tiles(1, 2, size=64)[0].shape == (2, 64, 64)
    assert synthetic_tiles(1, 0)[0].shape == (0, 128, 128)


def test_the_score_counts_assessed_tiles_only() -> None:
    truth = [TruthTile(0, col, 0.5, share) for col, share in enumerate((0.5, 0.0, 0.5, 0.0))]
    states = np.array([TileState.DAMAGED, TileState.NOT_DAMAGED, TileState.NOT_DAMAGED, TileState.NOT_ASSESSED])
    score = score_synthetic(table(states, np.array([0.9, 0.2, 0.1, np.nan])), truth)
    assert (score.tiles, score.damaged) == (3, 2)
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.auroc == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("probability", "positive", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ([0.5, 0.5], [0, 1], 0.5),
        ([0.1, 0.5, 0.5, 0.9], [0, 1, 0, 1], 0.875),
    ],
)
def test_auroc_is_the_chance_of_the_right_order(probability, positive, expected: float) -> None:
    assert auroc(np.array(probability), np.array(positive, bool)) == expected


def test_auroc_of_one_class_is_unknown() -> None:
    assert np.isnan(auroc(np.array([0.5]), np.array([True])))


def table(states: np.ndarray, probability: np.ndarray) -> TileTable:
    n = len(states)
    seconds = np.zeros(n)
    values = {
        "row": np.zeros(n, np.int32), "col": np.arange(n, dtype=np.int32), "state": states.astype(np.uint8),
        "reason": np.where(states == 0, "nodata", ""), "probability": probability,
        "inference_seconds": seconds, "total_seconds": seconds,
    }  # fmt: skip
    return TileTable(**{name: values.get(name) for name in TileTable.__dataclass_fields__})
