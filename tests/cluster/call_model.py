"""Calls a model with its golden requests, from a pod with our serving image: a plain script, and only what is in there.

`v2|tfs HOST:PORT MODEL GOLDEN.npz`; prints the largest difference from the golden answers.
"""

import sys

import grpc
import numpy as np

TIMEOUT_SECONDS = 30
UINT8 = 4  # DT_UINT8


def v2(address: str, model: str, tiles: np.ndarray) -> np.ndarray:
    from tritonclient.grpc import InferenceServerClient, InferInput

    with InferenceServerClient(address) as client:
        given = InferInput("tiles", list(tiles.shape), "UINT8")
        given.set_data_from_numpy(tiles)
        return client.infer(model, [given], client_timeout=TIMEOUT_SECONDS).as_numpy("probability")


def tfs(address: str, model: str, tiles: np.ndarray) -> np.ndarray:
    from atalaya_serving.tfs import messages

    request = messages.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["tiles"]
    tensor.dtype, tensor.tensor_content = UINT8, tiles.tobytes()
    for size in tiles.shape:
        tensor.tensor_shape.dim.add(size=size)
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        answer = messages.PredictResponse.FromString(method(request.SerializeToString(), timeout=TIMEOUT_SECONDS))
    found = answer.outputs["probability"]
    return np.array(found.float_val or np.frombuffer(found.tensor_content, np.float32)).reshape(-1, 1)


if __name__ == "__main__":
    protocol, address, model, file = sys.argv[1:]
    golden = np.load(file)
    answered = {"v2": v2, "tfs": tfs}[protocol](address, model, golden["inputs"])
    print(float(np.abs(answered - golden["outputs"]).max()))
