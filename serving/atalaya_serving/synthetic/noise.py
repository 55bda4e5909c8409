"""Arithmetic for drawing by position: cells and where one is in them, hashes of cells, smooth steps, enlarging.

Pure functions of arrays. They know nothing of towns.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.uint32]

COARSE = 8
"""What is slow to compute is computed on every 8th pixel."""


def ease(part: Floats) -> Floats:
    """A smooth step from 0 to 1."""
    return np.asarray(part * part * (3 - 2 * part), np.float32)


def divide(value: NDArray[Any], by: "NDArray[Any] | np.float32") -> tuple[NDArray[np.int32], Floats]:
    """Which cell a coordinate falls into, and where in it."""
    cell = np.floor(value / by)
    return cell.astype(np.int32), np.asarray(value - cell * by, np.float32)


def mix(first: NDArray[np.int32], second: NDArray[np.int32], third: "Ids | int", salt: int) -> Ids:
    """A hash of four integers whose low bits are well mixed."""
    mixed = (first.astype(np.uint32) * np.uint32(0x9E3779B1)) ^ (second.astype(np.uint32) * np.uint32(0x85EBCA6B))
    mixed += np.asarray(third, np.uint32) * np.uint32(0xC2B2AE35) + np.uint32(salt * 2654435)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(13)
    return mixed


def enlarge(coarse: Floats, shape: tuple[int, int]) -> Floats:
    """Bilinear from every 8th pixel to every pixel."""
    rows, cols = np.arange(shape[0]) / COARSE, np.arange(shape[1]) / COARSE
    first_rows, first_cols = rows.astype(int), cols.astype(int)
    next_rows = np.minimum(first_rows + 1, coarse.shape[0] - 1)
    next_cols = np.minimum(first_cols + 1, coarse.shape[1] - 1)
    part_rows = (rows - first_rows).astype(np.float32)[:, None]
    part_cols = (cols - first_cols).astype(np.float32)
    lines = coarse[first_rows] + (coarse[next_rows] - coarse[first_rows]) * part_rows
    return np.asarray(lines[:, first_cols] + (lines[:, next_cols] - lines[:, first_cols]) * part_cols, np.float32)


def blur(picture: Floats, axis: int) -> Floats:
    """A narrow kernel: 0.1, 0.8, 0.1."""
    before, after = np.roll(picture, 1, axis), np.roll(picture, -1, axis)
    return np.asarray(0.8 * picture + 0.1 * (before + after), np.float32)
