"""The same inference for every peer: preset input tensors, start_async and wait, one request a stream."""

import os
import queue

import numpy as np
import openvino as ov


class Slots:
    """As many infer requests as OpenVINO finds best; `run` may be called from as many threads."""

    def __init__(self, path: str) -> None:
        compiled = ov.Core().compile_model(
            path, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": os.environ["BENCH_PRECISION"]}
        )
        self.count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(self.count):
            self._free.put((compiled.create_infer_request(), {}))

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """Infer one batch."""
        request, kept = self._free.get()
        try:
            if kept.get("shape") != tiles.shape:
                kept["shape"] = tiles.shape
                kept["tensor"] = ov.Tensor(ov.Type.f32, list(tiles.shape))
                request.set_input_tensor(kept["tensor"])
            np.copyto(kept["tensor"].data, tiles)
            request.start_async()
            request.wait()
            return request.get_output_tensor(0).data.copy()
        finally:
            self._free.put((request, kept))
