"""The figures of the 2020 thesis, as it published them: what ours are laid beside.

It measured one network (four convolutions, 128×128 grey tiles) behind Flask
and FastAPI, each image uploaded by itself, on 2 and 4 cores; it was trained on a K80.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """One fit: share of right answers, seconds, loss."""

    epochs: int
    accuracy: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class Engine:
    """One engine over all of its inferences."""

    right: int
    inferences: int
    inference_ms: float
    total_ms: float
    images_per_second: float


TRAINING = {one.epochs: one for one in (
    Training(100, 0.85, 16.79, 2.1), Training(175, 0.93, 25.86, 1.5), Training(200, 0.87, 29.94, 1.9),
)}  # fmt: skip
ENGINES = {
    "openvino": Engine(31_141, 32_000, 3.0, 108.0, 67.0),
    "tensorflow": Engine(31_521, 32_000, 106.0, 381.0, 64.0),
}
