"""One call, many at a time, callbacks, asyncio, streams, options of a request: answers belong to their requests."""

import asyncio
import queue
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from conformance.asking import SAME, Array, ended, has, in_grpc, in_http
from conformance.differences import expected
from conformance.servers import SERVERS, Peer

PLAIN = "`ModelInferResponse`"


def rows(number: int, count: int = 1) -> Array:
    return np.full((count, 4), number, np.float32)


def json_output() -> list[triton_http.InferRequestedOutput]:
    return [triton_http.InferRequestedOutput("y", binary_data=False)]


def json_input(number: int) -> list[triton_http.InferInput]:
    return [in_http("x", rows(number), binary=False)]


def test_outputs_are_those_asked_for_and_the_id_comes_back(over_grpc: triton_grpc.InferenceServerClient) -> None:
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    given = [in_grpc("b", b), in_grpc("a", a)]
    chosen = over_grpc.infer(
        "arithmetic", given, outputs=[triton_grpc.InferRequestedOutput("difference")], request_id="42"
    )
    assert chosen.as_numpy("sum") is None
    np.testing.assert_array_equal(chosen.as_numpy("difference"), a - b)
    told = chosen.get_response()
    assert (told.id, told.model_name, told.model_version) == ("42", "arithmetic", "1")
    whole = over_grpc.infer("arithmetic", given)
    np.testing.assert_array_equal(whole.as_numpy("sum"), a + b)
    np.testing.assert_array_equal(whole.as_numpy("difference"), a - b)


def test_the_same_over_http(over_http: triton_http.InferenceServerClient) -> None:
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    given = [in_http("b", b, binary=False), in_http("a", a, binary=False)]
    wanted = [triton_http.InferRequestedOutput("difference", binary_data=False)]
    chosen = over_http.infer("arithmetic", given, outputs=wanted, request_id="42")
    assert chosen.as_numpy("sum") is None
    np.testing.assert_array_equal(chosen.as_numpy("difference"), a - b)
    told = chosen.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("42", "arithmetic", "1")


def test_outputs_that_are_not_named_come_as_the_client_asks(
    server: Peer, over_http: triton_http.InferenceServerClient
) -> None:
    """tritonclient then asks for all of them as bytes (`binary_data_output`)."""
    found = ended(lambda: over_http.infer("scale", json_input(2)), has("y", rows(6)))
    assert found == expected(server.kind, "outputs not named, over HTTP", SAME)


@pytest.mark.parametrize("version", ["", "3"])
def test_a_version_may_be_named(over_grpc: triton_grpc.InferenceServerClient, version: str) -> None:
    answer = over_grpc.infer("scale", [in_grpc("x", rows(1))], model_version=version)
    assert answer.get_response().model_version == "3"


def test_batches_of_changing_size_never_mix(over_grpc: triton_grpc.InferenceServerClient) -> None:
    for count in (1, 3, 1, 2, 9, 12, 4, 1):
        answer = over_grpc.infer("scale", [in_grpc("x", rows(count, count))]).as_numpy("y")
        np.testing.assert_array_equal(answer, rows(3 * count, count))


def test_calls_at_the_same_time_get_their_own_answers(over_grpc: triton_grpc.InferenceServerClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda number: over_grpc.infer("scale", [in_grpc("x", rows(number))]), range(64))
        assert [answer.as_numpy("y")[0, 0] for answer in answers] == [3.0 * number for number in range(64)]


def test_callbacks_are_all_called(over_grpc: triton_grpc.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(20):
        over_grpc.async_infer(
            "scale", [in_grpc("x", rows(number))], lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )  # fmt: skip
    for _ in range(20):
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.as_numpy("y")[0, 0] == 3 * int(result.get_response().id)


def test_async_calls_over_http_are_all_answered(server: Peer) -> None:
    with triton_http.InferenceServerClient(server.http, concurrency=4) as client:
        calls = [client.async_infer("scale", json_input(number), outputs=json_output()) for number in range(12)]
        assert [call.get_result().as_numpy("y")[0, 0] for call in calls] == [3.0 * number for number in range(12)]


def test_the_asyncio_client_is_answered_over_grpc(server: Peer) -> None:
    async def talk() -> None:
        async with triton_grpc_aio.InferenceServerClient(server.grpc) as client:
            calls = (client.infer("scale", [in_grpc("x", rows(number))]) for number in range(8))
            answers = await asyncio.gather(*calls)
            assert [answer.as_numpy("y")[0, 0] for answer in answers] == [3.0 * number for number in range(8)]

    asyncio.run(talk())


def test_the_asyncio_client_is_answered_over_http(server: Peer) -> None:
    async def talk() -> list[float]:
        async with triton_http_aio.InferenceServerClient(server.http) as client:
            calls = (client.infer("scale", json_input(number), outputs=json_output()) for number in range(8))
            return [float(answer.as_numpy("y")[0, 0]) for answer in await asyncio.gather(*calls)]

    found = ended(lambda: asyncio.run(talk()), lambda values: values == [3.0 * number for number in range(8)])
    assert found == expected(server.kind, "JSON without a `Content-Type` (`tritonclient.http.aio`)", SAME)


def test_the_answers_of_a_stream_are_of_the_kind_that_clients_await(server: Peer) -> None:
    request = service_pb2.ModelInferRequest(model_name="scale", raw_input_contents=[bytes(16)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        message = next(stream(iter([request.SerializeToString()]), timeout=30))
    try:
        told = service_pb2.ModelStreamInferResponse.FromString(message)
        is_plain = told.infer_response.model_name != "scale"
    except DecodeError:
        is_plain = True
    found = PLAIN if is_plain else "`ModelStreamInferResponse`"
    assert found == expected(server.kind, "the messages of a stream", "`ModelStreamInferResponse`")


WITH_STREAMS = pytest.mark.parametrize(
    "server",
    [name for name in SERVERS if expected(name.partition("-")[0], "the messages of a stream", "") != PLAIN],
    indirect=True,
    scope="session",
)
"""tritonclient never comes back from a stream whose messages are of another kind."""


class Stream:
    """tritonclient's stream: what was sent, answered in the order of arrival."""

    def __init__(self, client: triton_grpc.InferenceServerClient) -> None:
        self._client = client
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __enter__(self) -> "Stream":
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_stream(cancel_requests=True)

    def send(self, number: int, model: str = "scale", **more: Any) -> None:
        self._client.async_stream_infer(model, [in_grpc("x", rows(number))], request_id=str(number), **more)

    def receive(self, count: int) -> list[tuple[Any, Any]]:
        return [self._answers.get(timeout=30) for _ in range(count)]


@WITH_STREAMS
def test_a_stream_answers_every_request(server: Peer, over_grpc: triton_grpc.InferenceServerClient) -> None:
    with Stream(over_grpc) as stream:
        for number in range(12):
            stream.send(number)
        got = stream.receive(12)
    values = [float(result.as_numpy("y")[0, 0]) for result, error in got if error is None]
    assert values == [3.0 * number for number in range(12)]


@WITH_STREAMS
def test_a_stream_of_the_asyncio_client_answers_every_request(server: Peer) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(4):
            yield {"model_name": "scale", "inputs": [in_grpc("x", rows(number))], "request_id": str(number)}

    async def talk() -> list[float]:
        async with triton_grpc_aio.InferenceServerClient(server.grpc) as client:
            answers = [answer async for answer in client.stream_infer(requests())]
        return [float(result.as_numpy("y")[0, 0]) for result, error in answers if error is None]

    assert asyncio.run(talk()) == [0.0, 3.0, 6.0, 9.0]


@WITH_STREAMS
def test_a_wrong_request_does_not_end_its_stream(server: Peer, over_grpc: triton_grpc.InferenceServerClient) -> None:
    with Stream(over_grpc) as stream:
        for number in range(4):
            stream.send(number, "nothing" if number == 1 else "scale")
        got = stream.receive(4)
    answered = sorted(float(result.as_numpy("y")[0, 0]) for result, error in got if error is None)
    assert answered == [0.0, 6.0, 9.0]


@WITH_STREAMS
def test_the_final_answer_to_a_request_is_marked(server: Peer, over_grpc: triton_grpc.InferenceServerClient) -> None:
    with Stream(over_grpc) as stream:
        stream.send(1, enable_empty_final_response=True)
        ((result, error),) = stream.receive(1)
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


@pytest.mark.parametrize("value", [1, "text", True], ids=["number", "text", "truth"])
def test_parameters_that_nobody_knows_are_let_pass_over_grpc(
    server: Peer, over_grpc: triton_grpc.InferenceServerClient, value: Any
) -> None:
    given = [in_grpc("x", rows(1))]
    assert ended(lambda: over_grpc.infer("scale", given, parameters={"mine": value}), has("y", rows(3))) == SAME


def test_parameters_that_nobody_knows_are_let_pass_over_http(
    server: Peer, over_http: triton_http.InferenceServerClient
) -> None:
    asked = {"mine": 1, "yours": "text", "theirs": True}
    found = ended(
        lambda: over_http.infer("scale", json_input(1), outputs=json_output(), parameters=asked), has("y", rows(3))
    )
    assert found == SAME


def test_a_request_may_name_its_timeout_and_priority(
    server: Peer, over_grpc: triton_grpc.InferenceServerClient
) -> None:
    given = [in_grpc("x", rows(1))]
    assert ended(lambda: over_grpc.infer("scale", given, timeout=60_000_000, priority=1), has("y", rows(3))) == SAME


def test_a_call_after_its_deadline_is_ended(server: Peer, over_grpc: triton_grpc.InferenceServerClient) -> None:
    given = [in_grpc("x", rows(1, 50_000))]
    assert ended(lambda: over_grpc.infer("scale", given, client_timeout=1e-4)) == "DEADLINE_EXCEEDED"
