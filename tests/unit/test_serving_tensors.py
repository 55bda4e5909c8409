"""Tensors to and from bytes and values, the error table, and the hand-cut protobuf."""

from collections.abc import Sequence

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from atalaya_serving import errors
from atalaya_serving.dataplane import InputTensor
from atalaya_serving.datatypes import NUMPY, Encoded
from atalaya_serving.errors import CODES, InvalidRequest, ServingError, code_of
from atalaya_serving.grpc_convert import WireRequest, cut_request, parse_request, to_request
from atalaya_serving.tensors import from_raw, from_values, to_raw
from atalaya_serving.wire import Uncuttable, delimited
from builders_wire import FIXED, NUMBERS, fields


@pytest.mark.parametrize("datatype", sorted(NUMPY))
def test_raw_bytes_come_back_as_they_went(datatype: str) -> None:
    tensor = np.arange(6).astype(NUMPY[datatype]).reshape(2, 3)
    back = from_raw("x", datatype, [2, 3], to_raw(datatype, tensor))
    np.testing.assert_array_equal(back, tensor)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_strings_of_any_bytes_come_back_as_they_went(items: list[bytes]) -> None:
    tensor = np.empty(len(items), dtype=object)
    tensor[:] = items
    assert from_raw("x", "BYTES", [len(items)], to_raw("BYTES", tensor)).tolist() == items


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "told"),
    [
        pytest.param("FP32", [2, 2], b"123", "has 3 bytes; FP32 of shape [2, 2] is 16 bytes", id="byte count"),
        pytest.param("FP32", [-1, 2], b"", "none below 0", id="negative size"),
        pytest.param("FLOAT", [1], b"1234", "datatype 'FLOAT'; KServe v2 knows", id="datatype"),
        pytest.param("BYTES", [1], b"\x01\x00", "ends inside a BYTES length", id="length cut short"),
        pytest.param("BYTES", [1], b"\x09\x00\x00\x00ab", "ends past its data", id="string cut short"),
        pytest.param("BYTES", [2], b"\x01\x00\x00\x00a", "has 1 BYTES elements", id="too few strings"),
        pytest.param("UINT8", [2**40, 2**40], b"", "that is more than any message can carry", id="absurd size"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused_with_numbers(
    datatype: str, shape: list[int], raw: bytes, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_raw("x", datatype, shape, raw)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "values", "told"),
    [
        pytest.param("UINT8", [1, 256], "outside UINT8", id="overflow"),
        pytest.param("INT32", [1.5, 2], "not INT32", id="fraction"),
        pytest.param("BOOL", [1, 0], "not BOOL", id="numbers for booleans"),
        pytest.param("FP32", ["a", "b"], "not all numbers", id="strings"),
        pytest.param("FP32", [1], "has 1 values; shape [2] is 2", id="count"),
        pytest.param("BF16", [1, 2], "raw bytes only", id="BF16"),
        pytest.param("BYTES", [1, 2], "send strings", id="numbers for strings"),
        pytest.param("FP32", [[1], 2], "no FP32", id="ragged"),
        pytest.param("INT64", [2**70, 1], "not all numbers", id="larger than any integer"),
    ],
)
def test_values_that_do_not_fit_are_refused(datatype: str, values: list[object], told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_values("x", datatype, [2], values)
    assert told in str(caught.value)


def test_every_error_has_a_code_on_both_protocols() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServingError)]
    assert set(kinds) - {ServingError} == set(CODES)


@pytest.mark.parametrize(
    ("kind", "code", "http"),
    [
        (errors.ModelNotFound, grpc.StatusCode.NOT_FOUND, 404),
        (errors.ModelNotReady, grpc.StatusCode.UNAVAILABLE, 503),
        (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT, 400),
        (errors.QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (errors.DeadlineExpired, grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        (errors.NotSupported, grpc.StatusCode.UNIMPLEMENTED, 501),
    ],
)
def test_an_error_travels_by_the_table(kind: type[ServingError], code: grpc.StatusCode, http: int) -> None:
    told = code_of(kind("told"))
    assert (told.grpc, told.http) == (code, http)


def _message(raws: list[bytes]) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=raws)
    for index, raw in enumerate(raws):
        request.inputs.add(name=f"x{index}", datatype="UINT8", shape=[len(raw)])
    request.outputs.add(name="y")
    request.parameters["timeout"].int64_param = 5
    return bytes(request.SerializeToString())


def _decoded(tensors: Sequence[InputTensor]) -> list[np.ndarray]:
    return [one.data.decode() if isinstance(one.data, Encoded) else one.data for one in tensors]


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_cutting_reads_what_protobuf_reads(raws: list[bytes]) -> None:
    message = _message(raws)
    cut = cut_request(message)
    whole = service_pb2.ModelInferRequest.FromString(message)
    assert [bytes(view) for view in cut.raw] == list(whole.raw_input_contents)
    whole.ClearField("raw_input_contents")
    assert cut.message == whole
    assert [one.tobytes() for one in _decoded(to_request(cut).inputs)] == [bytes(view) for view in cut.raw]


@given(st.lists(st.binary(max_size=40), min_size=100, max_size=200), st.booleans())
def test_cutting_takes_typed_contents_out_and_leaves_their_meaning(items: list[bytes], twice: bool) -> None:
    """Of two parts of one message, protobuf makes one."""
    request = service_pb2.ModelInferRequest(model_name="m")
    one = request.inputs.add(name="x" * 2000, datatype="BYTES", shape=[len(items) * (1 + twice)])
    one.contents.bytes_contents.extend(items)
    message = request.SerializeToString()
    if twice:
        inner = one.SerializeToString()
        contents = service_pb2.ModelInferRequest.InferInputTensor(contents=one.contents).SerializeToString()
        message = delimited(1, b"m") + delimited(5, inner + contents)
    cut = cut_request(message)
    assert not cut.message.inputs[0].HasField("contents")
    (tensor,) = _decoded(to_request(cut).inputs)
    assert tensor.tolist() == items * (1 + twice)


CONTENTS = fields(
    {
        (3, 0): NUMBERS, (3, 2): st.sampled_from([b"", b"\1", b"\1\2", b"\x81"]), (2, 2): st.just(b"\1"),
        (8, 2): st.sampled_from([b"", b"ab"]), (3, 5): FIXED, (0, 0): NUMBERS, (99, 2): st.just(b"?"),
    },
    3,
)  # fmt: skip
CUT_IN_TWO = st.sampled_from([b"\x12\1", b"\1", b"\x1a\1", b"\x42"])
INPUTS = fields(
    {
        (5, 2): CONTENTS | CUT_IN_TWO | st.just(b"\x1a\1\1"), (1, 2): st.just(b"x" * 1100), (3, 0): NUMBERS,
        (2, 2): st.sampled_from([b"INT64", b"BYTES", b"\xff"]), (5, 0): NUMBERS, (0, 0): NUMBERS,
    },
    2,
)  # fmt: skip
LONG_NAME = b"\x0a\xcc\x08" + b"x" * 1100
ONE_NUMBER = b"\x12\5INT64\x18\1"
DECLARED = st.sampled_from(
    [ONE_NUMBER, *(LONG_NAME + one for one in (ONE_NUMBER, ONE_NUMBER + b"\x2a\3\x1a\1\1", b"\x12\5BYTES\x18\1"))]
)
ONE_INPUT = st.builds(bytes.__add__, DECLARED, INPUTS)
BESIDE = fields(
    {
        (1, 2): st.just(b"m"), (5, 2): ONE_INPUT, (6, 2): st.just(b"\x0a\1y"),
        (7, 2): st.sampled_from([b"", b"\0" * 8, b"\2\0\0\0ab"]), (7, 0): NUMBERS, (5, 5): FIXED,
    },
    2,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.builds(bytes.__add__, ONE_INPUT.map(lambda one: delimited(5, one)), BESIDE))
@example(delimited(5, LONG_NAME + ONE_NUMBER + b"\x2a\1\x1a\x2a\2\1\2"))  # contents cut in two
@example(delimited(5, LONG_NAME + b"\x12\5INT64\x18\0") + b"\xba\x80\x80\x80\x80\0\0")  # a tag of six bytes
def test_requests_of_any_fields_are_refused_or_understood_as_protobuf_reads_them(message: bytes) -> None:
    def understood(wire: WireRequest) -> object:
        made = to_request(wire)
        values = [(one.tolist(), one.dtype, one.shape) for one in _decoded(made.inputs)]
        return made.model, [(one.name, one.datatype) for one in made.inputs], values, made.outputs

    try:
        cut = understood(cut_request(message))
    except (Uncuttable, DecodeError, ServingError):
        return
    whole = service_pb2.ModelInferRequest.FromString(message)
    assert cut == understood(WireRequest(whole, whole.raw_input_contents))


@settings(max_examples=300)
@given(st.data())
def test_cutting_damaged_bytes_refuses_them_or_reads_what_protobuf_reads(data: st.DataObject) -> None:
    message = bytearray(_message([b"a" * 40, b"b" * 200]))
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    del message[data.draw(st.integers(0, len(message))) :]
    try:
        cut = cut_request(bytes(message))
        cut.message.raw_input_contents.extend(bytes(view) for view in cut.raw)
    except (Uncuttable, DecodeError, InvalidRequest):
        return
    assert cut.message == service_pb2.ModelInferRequest.FromString(bytes(message))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x3a\x00" * 20_000, id="raw inputs"),
        pytest.param(b"\x32\x00" * 20_000, id="outputs"),
        pytest.param(b"\x2a\xd0\x0f" + b"\x0a\x00" * 1000 + b"\x32\x00" * 16_000, id="names inside of an input"),
    ],
)
def test_a_message_of_very_many_parts_is_refused_before_they_are_counted(message: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no ModelInferRequest"):
        parse_request(message)


def test_a_large_request_beside_its_tensors_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="bytes beside its tensors"):
        parse_request(delimited(3, b"x" * (2 << 20)))


def test_strings_and_typed_values_are_not_decoded_before_they_are_wanted() -> None:
    """Their count, which only decoding tells, is wrong, and nothing has noticed it yet."""
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT32", shape=[3]).contents.int_contents.append(1)
    raw = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\x09\0\0\0"])
    raw.inputs.add(name="x", datatype="BYTES", shape=[3])
    for message, told in ((request, "has 1 values"), (raw, "ends past its data")):
        (tensor,) = to_request(WireRequest(message, message.raw_input_contents)).inputs
        assert isinstance(tensor.data, Encoded)
        assert tensor.data.shape == (3,)
        with pytest.raises(InvalidRequest, match=told):
            tensor.data.decode()
