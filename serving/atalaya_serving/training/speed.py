"""How much faster one graph is than another: interleaved in one run, since a machine's speed drifts."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from atalaya_serving.training.networks import TILE_SIZE

ROUNDS = 25
CALLS_A_ROUND = 10


@dataclass(frozen=True)
class SpeedRatio:
    """Median time of one tile for both, in microseconds, and the median of the ratios round by round."""

    model_us: float
    baseline_us: float
    ratio: float


def speed_ratio(model: Any, baseline: Any, precision: str) -> SpeedRatio:
    """Batch 1, one caller, OpenVINO on the CPU at inference `precision` (f32 or bf16), all cores."""
    import openvino as ov

    tile = np.random.default_rng(0).integers(0, 255, (1, TILE_SIZE, TILE_SIZE, 1), dtype=np.uint8)
    requests = []
    for graph in (model, baseline):
        fixed = graph.clone()
        fixed.reshape([1, TILE_SIZE, TILE_SIZE, 1])
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        request = ov.Core().compile_model(fixed, "CPU", hints).create_infer_request()
        request.set_input_tensor(ov.Tensor(tile))
        requests.append(request)
    rounds = np.array([[_microseconds(request) for request in requests] for _ in range(ROUNDS)])
    ours, theirs = np.median(rounds, axis=0)
    return SpeedRatio(
        round(float(ours), 1), round(float(theirs), 1), round(float(np.median(rounds[:, 1] / rounds[:, 0])), 2)
    )


def _microseconds(request: Any) -> float:
    request.infer()
    start = time.perf_counter()
    for _ in range(CALLS_A_ROUND):
        request.start_async()
        request.wait()
    return (time.perf_counter() - start) / CALLS_A_ROUND * 1e6
