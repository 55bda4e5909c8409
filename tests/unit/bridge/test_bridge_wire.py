"""The bridge's own reading and writing of messages is protobuf's, for every dtype, and no damage gets past it."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import tfs_wire, v2_wire, wire
from atalaya_serving.datatypes import BYTES, NUMPY, Tensor
from atalaya_serving.errors import InvalidRequest, ServingError
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse, TensorProto
from atalaya_serving.tfs.tensors import data_type, from_proto, to_proto

ALWAYS, NEVER = 0, 1 << 62
SHAPES = [pytest.param((2, 3), id="matrix"), pytest.param((), id="scalar"), pytest.param((0, 4), id="empty")]
DATATYPES = [*NUMPY, BYTES]
FULL = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def tensor(datatype: str, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """All bits that the dtype can have, NaNs and negative numbers among them."""
    rng, count = np.random.default_rng(seed), math.prod(shape)
    if datatype == BYTES:
        made = np.empty(count, object)
        made[:] = [rng.bytes(int(length)) for length in rng.integers(0, 9, count)]
        return made.reshape(shape)
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(np.bool_)
    return np.frombuffer(rng.bytes(count * NUMPY[datatype].itemsize), NUMPY[datatype]).reshape(shape)


def bits(one: Tensor) -> list[object]:
    return one.ravel().tolist() if one.dtype == object else [one.tobytes()]


def assert_same(one: tuple[str, Tensor], other: tuple[str, Tensor]) -> None:
    assert one[0] == other[0]
    assert one[1].shape == other[1].shape
    assert bits(one[1]) == bits(other[1])


def read_request(message: bytes, cut_from: int = ALWAYS) -> tuple[Any, tfs_wire.Tensors]:
    told, tensors = tfs_wire.read_request(message, cut_from)
    return told, {name: (datatype, tfs_wire.decoded(one)) for name, (datatype, one) in tensors.items()}


def predict_request(datatype: str, given_tensor: Tensor, *, raw: bool) -> bytes:
    request = PredictRequest()
    request.model_spec.name = "m"
    request.output_filter.append("y")
    request.inputs["a"].CopyFrom(to_proto(datatype, given_tensor))
    if raw:
        proto = TensorProto(dtype=data_type(datatype), tensor_content=given_tensor.tobytes())
        proto.tensor_shape.CopyFrom(request.inputs["a"].tensor_shape)
        request.inputs["a"].CopyFrom(proto)
    request.inputs["b"].CopyFrom(to_proto("FP32", np.ones(3, np.float32)))
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("datatype", "raw"), [*((name, False) for name in DATATYPES), *((name, True) for name in NUMPY)]
)
def test_a_cut_predict_request_is_what_protobuf_reads(datatype: str, shape: tuple[int, ...], raw: bool) -> None:
    message = predict_request(datatype, tensor(datatype, shape), raw=raw)
    told, cut = read_request(message, ALWAYS)
    _, parsed = read_request(message, NEVER)
    assert told.model_spec.name == "m"
    assert list(told.output_filter) == ["y"]
    assert cut.keys() == parsed.keys() == {"a", "b"}
    for name, one in cut.items():
        assert_same(one, parsed[name])
    if raw:
        assert_same(cut["a"], (datatype, tensor(datatype, shape)))


@pytest.mark.parametrize("datatype", list(NUMPY))
def test_a_large_tensor_is_never_copied_out_of_its_message(datatype: str) -> None:
    given_tensor = tensor(datatype, (64, 1024))
    message = predict_request(datatype, given_tensor, raw=True)
    view = read_request(message)[1]["a"][1]
    assert np.shares_memory(view, np.frombuffer(message, np.uint8))
    head = service_pb2.ModelInferResponse(model_name="m")
    answer = wire.join(v2_wire.write_response(head, [("y", datatype, given_tensor)]))
    view = v2_wire.read_response(answer)[1]["y"][1]
    assert np.shares_memory(view, np.frombuffer(answer, np.uint8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_written_predict_request_is_read_by_protobuf(datatype: str, shape: tuple[int, ...]) -> None:
    given_tensor = tensor(datatype, shape)
    spec = PredictRequest().model_spec
    spec.name, spec.version.value = "m", 7
    message = wire.join(tfs_wire.write_request(spec, [("a", datatype, given_tensor)], ["y", "z"]))
    request = PredictRequest.FromString(message)
    assert (request.model_spec, list(request.output_filter)) == (spec, ["y", "z"])
    assert_same(from_proto("a", request.inputs["a"]), (datatype, given_tensor))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_written_predict_response_has_the_typed_values_that_clients_read(
    datatype: str, shape: tuple[int, ...]
) -> None:
    given_tensor = tensor(datatype, shape)
    spec = PredictResponse().model_spec
    spec.name = "m"
    message = wire.join(tfs_wire.write_response(spec, [("y", datatype, given_tensor)]))
    proto = PredictResponse.FromString(message).outputs["y"]
    expected = to_proto(datatype, given_tensor)
    expected.tensor_shape.SetInParent()
    assert proto.SerializeToString() == expected.SerializeToString()
    assert proto.tensor_content == b""
    for cut_from in (ALWAYS, NEVER):
        assert_same(tfs_wire.read_response(message, cut_from)[1]["y"], from_proto("y", proto))
    assert_same(from_proto("y", proto), (datatype, given_tensor))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_v2_message_written_and_read_is_the_same(datatype: str, shape: tuple[int, ...]) -> None:
    given_tensor = tensor(datatype, shape)
    message = wire.join(v2_wire.write_request("m", "3", [("x", datatype, given_tensor)], ["y"], "id"))
    request = service_pb2.ModelInferRequest.FromString(message)
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "id")
    assert (request.inputs[0].datatype, tuple(request.inputs[0].shape)) == (datatype, shape)
    head = service_pb2.ModelInferResponse(model_name="m", model_version="3")
    answer = wire.join(v2_wire.write_response(head, [("x", datatype, given_tensor), ("y", "FP32", np.ones(1, "f4"))]))
    for cut_from in (ALWAYS, NEVER):
        told, tensors = v2_wire.read_response(answer, cut_from)
        assert told.model_version == "3"
        assert list(tensors) == ["x", "y"]
        assert_same(tensors["x"], (datatype, given_tensor))


def test_an_upstream_that_answers_with_typed_contents_is_understood() -> None:
    answer = service_pb2.ModelInferResponse(model_name="m")
    answer.outputs.add(name="y", datatype="INT32", shape=[2]).contents.int_contents.extend([-1, 5])
    assert v2_wire.read_response(answer.SerializeToString())[1]["y"][1].tolist() == [-1, 5]


@FULL
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))
def test_packed_numbers_are_protobufs(numbers: list[int]) -> None:
    proto = TensorProto.FromString(
        b"".join(map(bytes, wire.delimited(b"\x52", wire.packed_varints(np.array(numbers, np.int64)))))
    )
    assert list(proto.int64_val) == numbers


@FULL
@given(at=st.integers(0, 200), value=st.integers(0, 255), keep=st.integers(0, 200), typed=st.booleans())
def test_a_damaged_request_is_read_as_protobuf_reads_it_or_refused(at: int, value: int, keep: int, typed: bool) -> None:
    message = bytearray(predict_request("FP32", tensor("FP32", (2, 3)), raw=not typed)[:keep])
    if at < len(message):
        message[at] = value

    def outcome(cut_from: int) -> object:
        try:
            told, tensors = read_request(bytes(message), cut_from)
        except ServingError as error:
            return type(error)
        named = sorted((name, kind, one.shape, str(bits(one))) for name, (kind, one) in tensors.items())
        return told.model_spec.SerializeToString(), list(told.output_filter), named

    # The cut refuses some forms that no client writes; it reads nothing that protobuf does not read alike.
    assert outcome(ALWAYS) in (outcome(NEVER), InvalidRequest)


@FULL
@given(message=st.binary(max_size=80))
def test_any_bytes_are_no_answer_or_one(message: bytes) -> None:
    for read in (tfs_wire.read_response, v2_wire.read_response, read_request):
        with suppress(ServingError):
            read(message, ALWAYS)
