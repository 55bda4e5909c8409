"""Requests with known answers that travel with a model: seeded synthetic tiles, never real imagery.

They show that a server gives what was exported, not that the model is right.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_NAME = "golden.npz"


def golden_tiles(size: int = 128, count: int = 8, seed: int = 2010) -> NDArray[np.uint8]:
    """`count` grey tiles [count, size, size, 1]: roofs on darker ground, under more and more rubble."""
    random = np.random.default_rng(seed)
    return np.stack([_tile(random, size, rubble=index / max(count - 1, 1)) for index in range(count)])[..., None]


def _tile(random: np.random.Generator, size: int, rubble: float) -> NDArray[np.uint8]:
    pixels = np.full((size, size), random.uniform(70, 120))
    for _ in range(24):
        height, width = random.integers(size // 12, size // 4, 2)
        top, left = random.integers(0, size - height), random.integers(0, size - width)
        pixels[top : top + height, left : left + width] = random.uniform(60, 230)
        pixels[top + height - 3 : top + height, left : left + width] = 30
    pixels += random.normal(0, 4, (size, size))
    edge = round(size * rubble)
    blocks = np.kron(random.normal(0, 1, (size // 2, size // 2)), np.ones((2, 2)))
    pixels[:edge] = (195 + 45 * blocks)[:edge]
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


def write_golden(file: Path, inputs: NDArray[np.uint8], outputs: NDArray[np.floating]) -> str:
    """Write the requests and their answers; returns the file's SHA-256."""
    np.savez_compressed(file, inputs=inputs, outputs=outputs.astype(np.float32))
    return hashlib.sha256(file.read_bytes()).hexdigest()
