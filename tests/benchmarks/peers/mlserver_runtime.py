"""The benchmark's model behind MLServer. Runs in .venvs/mlserver, found by the settings that bench_server.py writes."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from raw_slots import Slots


class Network(MLModel):
    """As lean as MLServer's runtime allows: in its own process, without its worker pool."""

    async def load(self) -> bool:
        self._slots = Slots(os.environ["BENCH_MODEL"])
        self._threads = ThreadPoolExecutor(self._slots.count)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tiles = NumpyCodec.decode_input(payload.inputs[0])
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._slots.run, tiles)
        output = NumpyCodec.encode_output("probability", answer)
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
