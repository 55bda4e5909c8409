"""Calls a model without a pause, from a pod with our serving image: `HOST:PORT MODEL GOLDEN.npz SECONDS`."""

import sys
import time
from contextlib import suppress

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

if __name__ == "__main__":
    address, model, file, seconds = sys.argv[1:]
    tiles = np.load(file)["inputs"]
    given = InferInput("tiles", list(tiles.shape), "UINT8")
    given.set_data_from_numpy(tiles)
    deadline = time.monotonic() + float(seconds)
    with InferenceServerClient(address) as client:
        while time.monotonic() < deadline:
            with suppress(InferenceServerException):  # a test of load, not of losses
                client.infer(model, [given], client_timeout=30)
