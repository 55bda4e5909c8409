"""The benchmark's model behind KServe's Python server. Runs in .venvs/kserve: usage kserve_server.py MODEL_XML PORT."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from raw_slots import Slots


class Network(Model):
    """As lean as KServe's runtime allows: the slots' threads infer, its event loop does the rest."""

    def __init__(self, path: str) -> None:
        super().__init__("thesis")
        self._slots = Slots(path)
        self._threads = ThreadPoolExecutor(self._slots.count)
        self.ready = True

    async def predict(
        self, payload: InferRequest, headers: object = None, response_headers: object = None
    ) -> InferResponse:
        tiles = payload.inputs[0].as_numpy()
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._slots.run, tiles)
        output = InferOutput(name="probability", shape=list(answer.shape), datatype="FP32")
        output.set_data_from_numpy(np.asarray(answer), binary_data=True)
        return InferResponse(response_id=payload.id, model_name="thesis", infer_outputs=[output])


if __name__ == "__main__":
    port = int(sys.argv[2])
    # By default it logs the timings of every request; the lean peer is spared that.
    ModelServer(
        http_port=int(sys.argv[3]),
        grpc_port=port,
        enable_grpc=True,
        enable_latency_logging="BENCH_LEAN" not in os.environ,
    ).start([Network(sys.argv[1])])
