"""Labelled tiles: what is read, what is refused and in which words, and which tiles touch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atalaya_serving.training.dataset import Examples, load_examples, touching_groups
from atalaya_serving.training.errors import InvalidTiles
from atalaya_serving.training.recipe import splits

TILES = np.random.default_rng(0).integers(0, 255, (6, 128, 128), dtype=np.uint8)
DAMAGED = np.array([0, 1, 0, 1, 0, 1], np.uint8)


def image(file: Path, size: int = 128) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(TILES[0][:size, :size]).save(file)


def test_an_npz_gives_tiles_with_one_channel_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", tiles=TILES, damaged=DAMAGED)
    found = load_examples(tmp_path / "t.npz")
    assert found.tiles.shape == (6, 128, 128, 1)
    assert (found.labels == DAMAGED).all()


def test_a_folder_gives_the_same_as_an_npz(tmp_path: Path) -> None:
    for index, (tile, label) in enumerate(zip(TILES, DAMAGED, strict=True)):
        folder = tmp_path / ("damaged" if label else "intact")
        folder.mkdir(exist_ok=True)
        Image.fromarray(tile).save(folder / f"{index}.png")
    found = load_examples(tmp_path)
    assert found.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert (found.tiles[:3, ..., 0] == TILES[DAMAGED == 1]).all()


def garbage(file: Path) -> None:
    file.write_bytes(b"not a zip")


def saved(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda file: None, "does not exist", id="missing"),
        pytest.param(garbage, "cannot be read as an .npz", id="not an npz"),
        pytest.param(lambda file: file.write_bytes(b""), "cannot be read as an .npz", id="empty file"),
        pytest.param(saved(tiles=TILES), "has no array 'damaged'; it has: tiles", id="no labels"),
        pytest.param(saved(images=TILES), "has no array 'tiles' and 'damaged'", id="neither array"),
        pytest.param(saved(tiles=TILES[:, :64], damaged=DAMAGED), "must be uint8 [n, 128, 128]", id="wrong size"),
        pytest.param(saved(tiles=TILES / 255, damaged=DAMAGED), "is float64", id="floats"),
        pytest.param(saved(tiles=TILES, damaged=DAMAGED[:3]), "one 0 or 1 for each tile", id="too few labels"),
        pytest.param(saved(tiles=TILES, damaged=DAMAGED * 2), "one 0 or 1 for each tile", id="label 2"),
        pytest.param(saved(tiles=TILES, damaged=DAMAGED * 0), "has no damaged tile", id="one class"),
        pytest.param(saved(tiles=TILES[:0], damaged=DAMAGED[:0]), "has no undamaged tile", id="no tiles"),
        pytest.param(saved(tiles=np.array(["a"], dtype=object), damaged=DAMAGED), "cannot be read", id="objects"),
    ],
)
def test_a_bad_npz_is_refused_in_one_line(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "t.npz")
    with pytest.raises(InvalidTiles) as refused:
        load_examples(tmp_path / "t.npz")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", TILES)
    with pytest.raises(InvalidTiles, match="one array"):
        load_examples(tmp_path / "t.npy")


def test_folders_that_are_not_two_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTiles, match="none; it needs two"):
        load_examples(tmp_path)
    image(tmp_path / "left" / "a.png")
    image(tmp_path / "right" / "a.png")
    with pytest.raises(InvalidTiles, match="left, right; it needs two, one of them named 'damaged'"):
        load_examples(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "damaged" / "a.png")
    (tmp_path / "intact").mkdir()
    with pytest.raises(InvalidTiles, match=r"intact has no image"):
        load_examples(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    image(tmp_path / "damaged" / "a.png")
    image(tmp_path / "intact" / "a.png")
    (tmp_path / "intact" / "b.png").write_bytes(b"\x89PNG cut off")
    with pytest.raises(InvalidTiles, match=r"b\.png cannot be read as an image"):
        load_examples(tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "damaged" / "a.png")
    image(tmp_path / "intact" / "a.png", size=64)
    with pytest.raises(InvalidTiles, match="64×64 px; tiles are 128×128"):
        load_examples(tmp_path)


def mosaic(rows: int, columns: int) -> np.ndarray:
    """Tiles cut side by side from one smooth picture, as neighbours in a mosaic are."""
    random = np.random.default_rng(7)
    steps = random.normal(0, 3, (rows * 128, columns * 128))
    picture = np.cumsum(np.cumsum(steps, axis=0), axis=1)
    picture = 127 + 100 * np.sin(picture / 60)
    cut = picture.reshape(rows, 128, columns, 128).swapaxes(1, 2).reshape(-1, 128, 128, 1)
    return cut.astype(np.uint8)


def test_tiles_cut_side_by_side_share_a_group_and_strangers_do_not() -> None:
    strangers = np.random.default_rng(1).integers(0, 255, (5, 128, 128, 1), dtype=np.uint8)
    groups = touching_groups(np.concatenate([mosaic(1, 3), strangers]))
    assert len(set(groups[:3])) == 1
    assert len(set(groups)) == 6


def test_touching_tiles_are_never_on_both_sides_of_a_fold() -> None:
    strangers = np.random.default_rng(1).integers(0, 255, (27, 128, 128, 1), dtype=np.uint8)
    tiles = np.concatenate([mosaic(1, 3), strangers])
    examples = Examples(tiles, (np.arange(30) % 2).astype(np.uint8))
    groups = touching_groups(tiles)
    dealt = splits(examples, folds=3, repeats=2, seed=0)
    assert len(dealt) == 6
    for split in dealt:
        assert not set(groups[split.learn]) & set(groups[split.judge])
    for repeat in range(2):
        judged = np.concatenate([split.judge for split in dealt if split.repeat == repeat])
        assert sorted(judged) == list(range(30))


def test_too_few_tiles_for_the_folds_are_refused() -> None:
    examples = Examples(np.zeros((6, 128, 128, 1), np.uint8), DAMAGED)
    with pytest.raises(InvalidTiles, match="3 tiles of the rarer class cannot make 5 folds"):
        splits(examples, folds=5, repeats=1, seed=0)
