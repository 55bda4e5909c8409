"""Unmodified clients, many at once, get through a bridge byte for byte what a server answers that lacks their API.

TensorFlow Serving clients before an OVMS 2026.3, whose upgrade took their API away; Triton clients before a TensorFlow
Serving.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

import builders_tfs as tfs
from atalaya_serving.engines.openvino_slots import OpenVinoEngine
from builders_bridge import bridging
from builders_faces import grpc_address, running_ovms, running_tfs
from builders_serving import save, scale

CALLS, AT_ONCE = 200, 8
ROWS = [np.random.default_rng(seed).random((1 + seed % 5, 4), np.float32) for seed in range(CALLS)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(scale(0.3), tmp_path, "m")
    return tmp_path / "m"


@pytest.fixture
def ovms(model: Path) -> Iterator[str]:
    flags = ("--model_name", "m", "--model_path", model)
    with running_ovms("2026.3", *flags, engine=OpenVinoEngine()) as server:
        yield grpc_address(server)


@pytest.fixture
def tensorflow_serving(model: Path) -> Iterator[str]:
    flags = ("--model_name=m", f"--model_base_path={model}")
    with running_tfs("2.20.0", *flags, engine=OpenVinoEngine()) as server:
        yield grpc_address(server)


def test_tensorflow_servings_clients_get_the_bytes_of_an_ovms_that_lacks_their_api(ovms: str) -> None:
    with grpc.insecure_channel(ovms) as direct, pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        tfs.Stubs(direct).outputs("m", x=ROWS[0])
    with (
        bridging(ovms, "tfs", models=("m",)) as bridge,
        grpc.insecure_channel(bridge.grpc.address) as channel,
        grpc.insecure_channel(ovms) as direct,
        ThreadPoolExecutor(AT_ONCE) as callers,
    ):
        stubs, own = tfs.Stubs(channel), service_pb2_grpc.GRPCInferenceServiceStub(direct)

        def directly(rows: np.ndarray) -> bytes:
            request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[rows.tobytes()])
            request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
            return bytes(own.ModelInfer(request, timeout=30).raw_output_contents[0])

        bridged = list(callers.map(lambda rows: stubs.outputs("m", x=rows)["y"].tobytes(), ROWS))
        assert bridged == list(map(directly, ROWS))


def test_tritons_clients_get_the_bytes_of_a_tensorflow_serving(tensorflow_serving: str) -> None:
    with (
        bridging(tensorflow_serving, "v2", models=("m",)) as bridge,
        triton.InferenceServerClient(bridge.grpc.address) as client,
        grpc.insecure_channel(tensorflow_serving) as direct,
        ThreadPoolExecutor(AT_ONCE) as callers,
    ):
        stubs = tfs.Stubs(direct)

        def through(rows: np.ndarray) -> bytes:
            given = triton.InferInput("x", list(rows.shape), "FP32")
            given.set_data_from_numpy(rows)
            return bytes(client.infer("m", [given]).as_numpy("y").tobytes())

        bridged = list(callers.map(through, ROWS))
        assert bridged == [stubs.outputs("m", x=rows)["y"].tobytes() for rows in ROWS]
