"""Labelled tiles: from an .npz (`tiles`, `damaged`) or from a folder of images with one sub-folder a class.

It also finds which tiles touch each other on the ground. Positions are not given, but neighbours cut from one mosaic
have edges that fit, and a model must not be judged on a tile whose neighbour it was trained on.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atalaya_serving.training.errors import InvalidTiles
from atalaya_serving.training.networks import TILE_SIZE

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
POSITIVE_FOLDER_NAMES = frozenset({"damaged", "damage", "1", "positive"})
EDGE_CORRELATION = 0.8
EDGE_DIFFERENCE = 25.0


@dataclass(frozen=True)
class Examples:
    """Tiles uint8 [n, size, size, 1] with labels uint8 [n]: 1 is damaged."""

    tiles: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: NDArray[np.integer[Any]]) -> "Examples":
        """The examples at `index`."""
        return Examples(self.tiles[index], self.labels[index])

    def digest(self) -> str:
        """SHA-256 over pixels and labels: a run goes on only with the tiles it was started with."""
        return hashlib.sha256(self.tiles.tobytes() + self.labels.tobytes()).hexdigest()


def load_examples(source: Path) -> Examples:
    """Read labelled tiles from an .npz or a folder. Raises InvalidTiles with the fact and what to do about it."""
    if not source.exists():
        raise InvalidTiles(f"{source} does not exist; give an .npz of tiles or a folder with one sub-folder a class.")
    examples = _from_folder(source) if source.is_dir() else _from_npz(source)
    for label, name in ((0, "undamaged"), (1, "damaged")):
        if not (examples.labels == label).any():
            raise InvalidTiles(f"{source} has no {name} tile; a model learns from both classes, so add some.")
    return examples


def _from_npz(source: Path) -> Examples:
    try:
        archive = np.load(source, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InvalidTiles(f"{source} holds one array; save an .npz with arrays `tiles` and `damaged`.")
        with archive:
            missing = [name for name in ("tiles", "damaged") if name not in archive.files]
            if missing:
                raise InvalidTiles(
                    f"{source} has no array {' and '.join(map(repr, missing))}; it has: "
                    f"{', '.join(archive.files) or 'none'}. Save `tiles` and `damaged`."
                )
            tiles, damaged = archive["tiles"], archive["damaged"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidTiles(f"{source} cannot be read as an .npz; save it with numpy.savez.") from error
    if tiles.ndim == 3:
        tiles = tiles[..., None]
    if tiles.dtype != np.uint8 or tiles.shape[1:] != (TILE_SIZE, TILE_SIZE, 1):
        raise InvalidTiles(
            f"{source}: `tiles` is {tiles.dtype} {list(tiles.shape)}; it must be uint8 [n, {TILE_SIZE}, {TILE_SIZE}]."
        )
    if damaged.shape != tiles.shape[:1] or not np.isin(damaged, (0, 1)).all():
        raise InvalidTiles(
            f"{source}: `damaged` is {damaged.dtype} {list(damaged.shape)} for {len(tiles)} tiles; "
            "it must hold one 0 or 1 for each tile."
        )
    return Examples(np.ascontiguousarray(tiles), damaged.astype(np.uint8))


def _from_folder(source: Path) -> Examples:
    classes = sorted(child for child in source.iterdir() if child.is_dir() and not child.name.startswith("."))
    positive = [child for child in classes if child.name.lower() in POSITIVE_FOLDER_NAMES]
    if len(classes) != 2 or len(positive) != 1:
        raise InvalidTiles(
            f"{source} has the sub-folders: {', '.join(child.name for child in classes) or 'none'}; "
            "it needs two, one of them named 'damaged'."
        )
    tiles, labels = [], []
    for folder in classes:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InvalidTiles(f"{folder} has no image ({', '.join(sorted(IMAGE_SUFFIXES))}); add some.")
        tiles += [_image(file) for file in files]
        labels += [int(folder in positive)] * len(files)
    return Examples(np.stack(tiles)[..., None], np.array(labels, np.uint8))


def _image(file: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L"), np.uint8)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidTiles(f"{file} cannot be read as an image; replace or remove it.") from error
    if pixels.shape != (TILE_SIZE, TILE_SIZE):
        raise InvalidTiles(
            f"{file} is {pixels.shape[1]}×{pixels.shape[0]} px; tiles are {TILE_SIZE}×{TILE_SIZE}: cut it anew."
        )
    return pixels


def touching_groups(tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A group number [n] for each tile: tiles whose facing edges fit together share one.

    Edges fit when they correlate (chance pairs stay below 0.77 in the Haiti tiles) and differ little in grey level.
    """
    from scipy.sparse.csgraph import connected_components

    pixels = tiles[..., 0].astype(np.float32)
    facing = ((pixels[:, :, -1], pixels[:, :, 0]), (pixels[:, -1, :], pixels[:, 0, :]))
    touching = np.zeros((len(tiles), len(tiles)), bool)
    for one, other in facing:
        # Not `@`: after openvino.convert_model a threaded OpenBLAS product spins for ever (numpy 2.4, openvino 2026.4).
        alike = np.einsum("ik,jk->ij", _standardised(one), _standardised(other)) > EDGE_CORRELATION
        for row, column in np.argwhere(alike):
            touching[row, column] |= bool(np.abs(one[row] - other[column]).mean() < EDGE_DIFFERENCE)
    np.fill_diagonal(touching, False)
    return np.asarray(connected_components(touching, directed=False)[1], np.int64)


def _standardised(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = edges - edges.mean(axis=1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6), np.float32)
