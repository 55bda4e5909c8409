"""A message converted by its template is what the long way makes of it; what is not of the kind goes the long way."""

import time
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import templates, tfs_wire, v2_wire, wire
from atalaya_serving.bridge.calls import Scope
from atalaya_serving.bridge.fronts import TfsFront, V2Front
from atalaya_serving.bridge.hop import Hop
from atalaya_serving.bridge.remote import RemoteDataplane
from atalaya_serving.bridge.tfs_upstream import TfsDialect, TfsModels
from atalaya_serving.bridge.upstream import Answer, Done, Upstream
from atalaya_serving.bridge.v2_upstream import V2Dialect, V2Models
from atalaya_serving.errors import ServingError
from atalaya_serving.tfs.labels import LabelTable
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


class Echo:
    """An upstream that reads with protobuf and gives every input back."""

    def __init__(self) -> None:
        self.version = 1

    def start(self, method: str, message: bytes, _scope: Scope, done: Done) -> None:
        if method.endswith("ModelInfer"):
            request = service_pb2.ModelInferRequest.FromString(message)
            answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=str(self.version))
            for one in request.inputs:
                answer.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            answer.raw_output_contents.extend(request.raw_input_contents)
        else:
            request = PredictRequest.FromString(message)
            answer = PredictResponse(model_spec=request.model_spec)
            answer.model_spec.version.value = self.version
            for name, proto in request.inputs.items():
                answer.outputs[name].CopyFrom(proto)
        done(answer.SerializeToString())


def hop(client: str, upstream: Echo) -> Hop:
    there = cast(Upstream, upstream)
    if client == "tfs":
        models = V2Models(there)
        return Hop(TfsFront(LabelTable()), RemoteDataplane(models, there, V2Dialect(models)))
    return Hop(V2Front(), RemoteDataplane(TfsModels(there), there, TfsDialect()))


def message(client: str, rows: np.ndarray[Any, Any] = ROWS, *, model: str = "m", identity: str = "") -> bytes:
    if client == "v2":
        return wire.join(v2_wire.write_request(model, "", [("x", "FP32", rows)], [], identity))
    spec = PredictRequest().model_spec
    spec.name = model
    return wire.join(tfs_wire.write_request(spec, [("x", "FP32", rows)], []))


def take(one: Hop, request: bytes) -> Answer:
    told: list[Answer] = []
    one.take(request, time.monotonic(), Scope(), told.append)
    assert len(told) == 1
    return told[0]


def values(client: str, answer: Answer) -> list[Any]:
    assert isinstance(answer, bytes)
    if client == "v2":
        told = service_pb2.ModelInferResponse.FromString(answer)
        return [told.model_version, told.id, np.frombuffer(told.raw_output_contents[0], "f4").tolist()]
    told = PredictResponse.FromString(answer)
    return [str(told.model_spec.version.value), "", list(told.outputs["x"].float_val)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went by a template."""
    made: list[bytes] = []
    write = templates.Template.write
    monkeypatch.setattr(templates.Template, "write", lambda self, given: (made.append(given), write(self, given))[1])
    return made


@pytest.mark.parametrize("client", ["tfs", "v2"])
def test_the_second_message_of_a_kind_goes_by_its_template_with_its_own_values(
    client: str, written: list[bytes]
) -> None:
    one = hop(client, Echo())
    for number in range(4):
        rows = ROWS * number
        assert values(client, take(one, message(client, rows))) == ["1", "", rows.ravel().tolist()]
        assert len(written) == 2 * number  # the request and its answer


@pytest.mark.parametrize("client", ["tfs", "v2"])
def test_another_version_model_or_shape_is_read_anew(client: str, written: list[bytes]) -> None:
    upstream = Echo()
    one = hop(client, upstream)
    take(one, message(client))
    upstream.version = 2
    assert values(client, take(one, message(client)))[0] == "2"
    assert len(written) == 1
    for other in (message(client, model="n"), message(client, ROWS[:1]), message(client, ROWS.reshape(4, 2))):
        assert isinstance(take(one, other), bytes)
    assert len(written) == 1


@pytest.mark.parametrize("client", ["tfs", "v2"])
def test_several_tensors_are_moved_each_to_its_own_name(client: str, written: list[bytes]) -> None:
    one = hop(client, Echo())
    for number in range(1, 4):
        rows = {"b": ROWS * number, "a": ROWS[:1] - number, "c": np.full(3, number, np.float32)}
        tensors = [(name, "FP32", tensor) for name, tensor in rows.items()]
        spec = PredictRequest(model_spec={"name": "m"}).model_spec
        write = (
            tfs_wire.write_request(spec, tensors, [])
            if client == "tfs"
            else v2_wire.write_request("m", "", tensors, [])
        )
        answer = take(one, wire.join(write))
        assert isinstance(answer, bytes)
        if client == "tfs":
            outputs = PredictResponse.FromString(answer).outputs
            got = {name: list(outputs[name].float_val) for name in outputs}
        else:
            told = service_pb2.ModelInferResponse.FromString(answer)
            raw = zip(told.outputs, told.raw_output_contents, strict=True)
            got = {output.name: np.frombuffer(content, "f4").tolist() for output, content in raw}
        assert got == {name: tensor.ravel().tolist() for name, tensor in rows.items()}
    assert len(written) == 4


def test_a_request_with_an_identity_gets_its_own_back(written: list[bytes]) -> None:
    one = hop("v2", Echo())
    for identity in ("a", "b", "a"):
        assert values("v2", take(one, message("v2", identity=identity)))[1] == identity
    assert written == []


def test_truths_are_read_each_time(written: list[bytes]) -> None:
    one = hop("v2", Echo())
    for _ in range(3):
        given_truths = wire.join(v2_wire.write_request("m", "", [("x", "BOOL", np.ones((2, 2), np.bool_))], []))
        assert isinstance(take(one, given_truths), bytes)
    assert written == []


def test_kinds_are_bounded_in_number() -> None:
    one = hop("v2", Echo())
    for number in range(700):
        take(one, message("v2", model="m" * number))
        take(one, message("v2", model=f"{number:09}"))
    kinds = one._requests._known.values()
    assert len(kinds) <= 256
    assert max(map(len, kinds)) <= 8


@pytest.mark.parametrize("client", ["tfs", "v2"])
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 120), value=st.integers(0, 255), keep=st.integers(20, 120), more=st.binary(max_size=4))
def test_a_changed_message_fares_as_if_no_template_were_known(
    client: str, at: int, value: int, keep: int, more: bytes
) -> None:
    changed = bytearray(message(client)[:keep] + more)
    if at < len(changed):
        changed[at] = value
    warm = hop(client, Echo())
    take(warm, message(client))
    take(warm, message(client))
    one, other = take(warm, bytes(changed)), take(hop(client, Echo()), bytes(changed))
    if isinstance(other, ServingError):
        assert type(one) is type(other)
    else:
        assert one == other
