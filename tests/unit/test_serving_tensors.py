"""Tensors to and from bytes and values, the error table, and the hand-cut protobuf."""

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from atalaya_serving import errors
from atalaya_serving.datatypes import NUMPY
from atalaya_serving.errors import CODES, InvalidRequest, ServingError, code_of
from atalaya_serving.grpc_convert import cut_raw_inputs, to_request
from atalaya_serving.tensors import from_raw, from_values, to_raw


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


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_cutting_by_hand_reads_what_protobuf_reads(raws: list[bytes]) -> None:
    message = _message(raws)
    cut = cut_raw_inputs(message)
    assert cut is not None
    rest, views = cut
    whole = service_pb2.ModelInferRequest.FromString(message)
    assert [bytes(view) for view in views] == list(whole.raw_input_contents)
    whole.ClearField("raw_input_contents")
    assert service_pb2.ModelInferRequest.FromString(rest) == whole
    np.testing.assert_array_equal(
        [tensor.data.tobytes() for tensor in to_request(whole, views).inputs], [bytes(view) for view in views]
    )


@settings(max_examples=300)
@given(st.data())
def test_cutting_by_hand_never_fails_on_damaged_bytes(data: st.DataObject) -> None:
    message = bytearray(_message([b"a" * 40, b"b" * 200]))
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    del message[data.draw(st.integers(0, len(message))) :]
    cut_raw_inputs(bytes(message))


def test_a_message_of_very_many_raw_inputs_is_left_to_protobuf() -> None:
    assert cut_raw_inputs(b"\x3a\x00" * 1000) is None
