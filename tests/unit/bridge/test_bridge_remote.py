"""The dataplane of a bridge: slow decoding holds up no other call, and every call is answered once."""

import struct
import threading
import time
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import wire
from atalaya_serving.bridge.calls import Scope
from atalaya_serving.bridge.fronts import V2Front
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.remote import RemoteDataplane, RemoteModel, remote_version
from atalaya_serving.bridge.tfs_upstream import TfsDialect, TfsModels
from atalaya_serving.bridge.upstream import Answer, Done, Upstream
from atalaya_serving.bridge.v2_wire import write_request
from atalaya_serving.dataplane import InferReply, InferRequest, InputTensor
from atalaya_serving.errors import InferenceFailed, InvalidRequest, ModelNotFound, QueueFull
from atalaya_serving.served import ServedVersion
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse


class Echo:
    """An upstream that gives every input back, after refusing `failing` calls."""

    def __init__(self, failing: int = 0) -> None:
        self.failing, self.calls = failing, 0
        self.threads: list[str] = []

    def start(self, _method: str, message: bytes, _scope: Scope, done: Done) -> None:
        self.calls += 1
        self.threads.append(threading.current_thread().name)
        request = PredictRequest.FromString(message)
        answer = PredictResponse(model_spec=request.model_spec)
        for name, proto in request.inputs.items():
            answer.outputs[name].CopyFrom(proto)
        is_retired = self.calls <= self.failing
        done(ModelNotFound("retired just now.") if is_retired else answer.SerializeToString())


def plane(upstream: Echo, most_in_flight: int = 8) -> RemoteDataplane:
    there = cast(Upstream, upstream)
    return RemoteDataplane(TfsModels(there), there, TfsDialect(), most_in_flight)


def strings(count: int) -> bytes:
    items = np.array([b"tile"] * count + [None], object)[:-1]
    return wire.join(write_request("m", "", [("x", "BYTES", items)], []))


def answer_of(dataplane: RemoteDataplane, message: bytes) -> Answer:
    told: Future[Answer] = Future()
    Hop(V2Front(), dataplane).take(message, time.monotonic(), Scope(), told.set_result)
    return told.result(timeout=30)


def test_few_strings_are_read_at_once_and_many_in_a_thread_of_their_own() -> None:
    upstream = Echo()
    dataplane = plane(upstream)
    for count in (3, 30_000):
        answer = answer_of(dataplane, strings(count))
        assert isinstance(answer, bytes)
        assert service_pb2.ModelInferResponse.FromString(answer).outputs[0].shape == [count]
    here = threading.current_thread().name
    assert upstream.threads[0] == here
    assert upstream.threads[1].startswith("aside")


@pytest.mark.parametrize("count", [3, 30_000])
def test_what_waits_to_be_decoded_counts_as_on_its_way(count: int) -> None:
    dataplane = plane(Echo(), most_in_flight=1)
    for _ in range(3):
        assert isinstance(answer_of(dataplane, strings(count)), bytes)
        dataplane.wait_until_idle(30)
    dataplane.in_flight = 1
    assert isinstance(answer_of(dataplane, strings(count)), QueueFull)


@pytest.mark.parametrize("count", [3, 30_000])
def test_strings_that_end_past_their_data_are_refused(count: int) -> None:
    request = service_pb2.ModelInferRequest.FromString(strings(count))
    request.raw_input_contents[0] = request.raw_input_contents[0][:-8] + struct.pack("<I", 99) + b"tile"
    dataplane = plane(Echo())
    assert isinstance(answer_of(dataplane, request.SerializeToString()), InvalidRequest)
    dataplane.wait_until_idle(30)
    assert dataplane.in_flight == 0


def test_a_defect_in_a_thread_of_its_own_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    dataplane = plane(Echo())

    def broken(_request: InferRequest) -> list[wire.Part]:
        raise ZeroDivisionError

    monkeypatch.setattr(dataplane, "write", broken)
    assert isinstance(answer_of(dataplane, strings(30_000)), InferenceFailed)


def prepared(dataplane: RemoteDataplane) -> tuple[list[InferReply], int]:
    """The replies to a call whose version was found, and how often it was looked for."""
    found: list[ServedVersion] = []
    replies: list[InferReply] = []

    def prepare() -> tuple[ServedVersion, InferRequest]:
        found.append(remote_version("m", len(found) + 1, RemoteModel(platform="told")))
        tensor = InputTensor("x", "FP32", np.ones(4, np.float32))
        return found[-1], InferRequest("m", found[-1].version_text, [tensor])

    came = threading.Event()

    def receive(reply: InferReply) -> None:
        replies.append(reply)
        came.set()

    dataplane.infer_prepared(InferRequest("", "", ()), prepare, receive)
    assert came.wait(30)
    return replies, len(found)


def test_a_version_retired_since_it_was_found_is_looked_for_again() -> None:
    upstream = Echo(failing=1)
    ((reply,), looks) = prepared(plane(upstream))
    assert (looks, upstream.calls) == (2, 2)
    assert reply.error is None
    served: Any = reply.served
    assert (served.version, served.model.platform) == (2, "told")


def test_it_is_looked_for_again_only_once() -> None:
    upstream = Echo(failing=9)
    ((reply,), looks) = prepared(plane(upstream))
    assert isinstance(reply.error, ModelNotFound)
    assert (looks, upstream.calls) == (2, 2)
