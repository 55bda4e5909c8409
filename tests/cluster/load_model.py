"""Calls a model without a pause, from a pod with our serving image: `HOST:PORT MODEL GOLDEN.npz SECONDS [CALLERS]`."""

import sys
import threading
import time
from contextlib import suppress

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


def call(address: str, model: str, tiles: np.ndarray, deadline: float) -> None:
    given = InferInput("tiles", list(tiles.shape), "UINT8")
    given.set_data_from_numpy(tiles)
    with InferenceServerClient(address) as client:
        while time.monotonic() < deadline:
            with suppress(InferenceServerException):  # a test of load, not of losses
                client.infer(model, [given], client_timeout=30)


if __name__ == "__main__":
    address, model, file, seconds, *callers = sys.argv[1:]
    tiles, deadline = np.load(file)["inputs"], time.monotonic() + float(seconds)
    for _ in range(int(*callers or ("1",))):
        threading.Thread(target=call, args=(address, model, tiles, deadline)).start()
