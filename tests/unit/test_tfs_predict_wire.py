"""PredictRequests are cut as protobuf would read them, and their values are left alone until they are wanted."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atalaya_serving.datatypes import Encoded
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tfs.messages import PredictRequest, TensorProto
from atalaya_serving.tfs.predict_wire import WirePredict, cut_predict, parse_predict
from atalaya_serving.tfs.tensors import data_type, to_proto
from atalaya_serving.wire import Uncuttable, delimited, packed_varint
from builders_wire import FIXED, NUMBERS, fields, tag


def raw(datatype: str, tensor: np.ndarray) -> Any:
    proto = TensorProto(dtype=data_type(datatype), tensor_content=tensor.tobytes())
    for size in tensor.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def request(**inputs: Any) -> Any:
    made = PredictRequest(output_filter=["y"])
    made.model_spec.name, made.model_spec.version.value = "m", 3
    for name, proto in inputs.items():
        made.inputs[name].CopyFrom(proto)
    return made


def read(wire: WirePredict) -> dict[str, tuple[str, list[Any]]]:
    return {
        name: (datatype, (data.decode() if isinstance(data, Encoded) else data).tolist())
        for name, (datatype, data) in wire.tensors().items()
    }


def samples() -> Any:
    words = np.empty((5000, 1), object)
    words[:, 0] = [b"%d" % number for number in range(5000)]
    repeated = to_proto("FP32", np.ones(1, np.float32))
    repeated.tensor_shape.dim[0].size = 7
    return request(
        content=raw("FP32", np.arange(12, dtype=np.float32).reshape(3, 4)),
        typed=to_proto("FP32", np.arange(6, dtype=np.float32)),
        longs=to_proto("INT64", np.arange(-3, 3)),
        bits=to_proto("FP16", np.ones(4, np.float16)),
        words=to_proto("BYTES", words),
        repeated=repeated,
        empty=raw("UINT8", np.empty((0, 4), np.uint8)),
    )


def test_a_cut_request_says_what_the_whole_one_says() -> None:
    whole = samples()
    cut = cut_predict(whole.SerializeToString())
    assert cut.message.model_spec == whole.model_spec
    assert list(cut.message.output_filter) == ["y"]
    assert read(cut) == read(WirePredict(whole))
    assert len(read(cut)) == 7
    assert all(not proto.tensor_content and not proto.string_val for proto in cut.message.inputs.values())


def test_values_are_not_decoded_before_they_are_wanted() -> None:
    wrong = to_proto("FP32", np.ones(4, np.float32))
    wrong.tensor_shape.dim[0].size = 3
    for wire in (WirePredict(request(x=wrong)), cut_predict(request(x=wrong).SerializeToString())):
        ((_, data),) = wire.tensors().values()
        assert isinstance(data, Encoded)
        with pytest.raises(InvalidRequest, match="tensor parsing error: x"):
            data.decode()


def is_read(message: bytes) -> bool:
    """Whether cutting reads it; then it reads what protobuf reads."""
    try:
        wire = cut_predict(message)
        cut = read(wire)
    except (Uncuttable, DecodeError, InvalidRequest):
        return False
    whole = PredictRequest.FromString(message)
    assert cut == read(WirePredict(whole))
    for one in (wire.message, whole):
        one.ClearField("inputs")
    assert wire.message == whole
    return True


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 94), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["xz", "zx"]),
)
@example([(37, 9), (48, 41)], "zx")  # an entry with a field beside its two: protobuf drops it, and looks into it
@example([(68, 18)], "xz")  # a value twice, the first of them damaged
@example([(10, 81)], "xz")  # a value twice, of which protobuf makes one
def test_damaged_requests_are_refused_or_read_as_protobuf_reads_them(
    changes: list[tuple[int, int]], names: str
) -> None:
    tensors = (raw("UINT8", np.ones(40, np.uint8)), to_proto("INT32", np.arange(9)))
    ordered = sorted(zip("xz", tensors, strict=True), key=lambda one: names.index(one[0]))
    head, *entries, tail = (
        part.SerializeToString()
        for part in (
            PredictRequest(model_spec=request().model_spec),
            *(PredictRequest(inputs={name: proto}) for name, proto in ordered),
            PredictRequest(output_filter=["y"]),
        )
    )
    message = bytearray(b"".join((head, *entries, tail)))
    for at, value in changes:
        message[at] = value
    is_read(bytes(message))


def one_input(values: bytes) -> bytes:
    """A request of one tensor, of one UINT8."""
    return delimited(2, b"\x0a\1x" + delimited(2, b"\x08\4\x12\4\x12\2\x08\1" + values))


SHAPES = st.sampled_from([b"", b"\x12\2\x08\1", b"\x12\2\x08\2", b"\x18\1", b"\x12\x09", b"\x18\0"])
TENSORS = fields(
    {
        (1, 0): st.sampled_from([b"\1", b"\3", b"\4", b"\7", b"\0"]), (2, 2): SHAPES, (3, 0): NUMBERS,
        (4, 2): st.sampled_from([b"", b"\1", b"\0\0\x80\x3f"]), (4, 0): NUMBERS, (5, 2): FIXED,
        (5, 5): st.just(b"\0\0\x80\x3f"), (5, 1): FIXED, (7, 0): NUMBERS,
        (7, 2): st.sampled_from([b"\1", b"\1\2", b"\x81"]), (8, 2): st.sampled_from([b"", b"ab"]), (8, 0): NUMBERS,
        (16, 2): st.just(b"\1"), (0, 0): NUMBERS, (99, 2): st.just(b"?"),
    },
    6,
)  # fmt: skip
DECLARED = st.sampled_from([b"\x08\4\x12\4\x12\2\x08\1", b"\x08\1\x12\4\x12\2\x08\1", b"\x08\3", b""])
ENTRIES = fields(
    {
        (1, 2): st.sampled_from([b"x", b"z", b"\xff"]), (2, 2): st.builds(bytes.__add__, DECLARED, TENSORS),
        (2, 0): NUMBERS, (1, 0): NUMBERS, (9, 2): st.just(b"?"),
    },
    3,
)  # fmt: skip
NAMED = st.builds(
    lambda name, declared, rest: b"\x0a\1" + name + b"\x12" + packed_varint(len(declared + rest)) + declared + rest,
    st.sampled_from([b"x", b"z"]), DECLARED, TENSORS,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(fields({(1, 2): st.just(b"\x0a\1m"), (2, 2): NAMED | ENTRIES, (3, 2): st.just(b"y"), (2, 5): FIXED}, 3))
@example(one_input(b"\x22\1\1\x7a"))  # values behind content, cut short
@example(one_input(b"\x3a\1\1\x08\0"))  # the type anew behind the values
@example(one_input(b"\x3a\1\1\x12\2\x18\1"))  # the shape anew behind the values
@example(tag(2, 2, 5) + one_input(b"\x3a\1\1")[1:])  # a tag of six bytes
def test_requests_of_any_fields_are_refused_or_read_as_protobuf_reads_them(message: bytes) -> None:
    is_read(message)


def test_every_tensor_that_has_its_fields_once_is_read() -> None:
    for values in (b"\x3a\1\1", b"\x22\1\1", b"\x38\1", b"\x22\0\x3a\1\1", b"\x22\1\1\x3a\1\1", b"\x9a\6\1?"):
        assert is_read(one_input(values)), values


def test_what_is_no_request_is_refused() -> None:
    large = samples().SerializeToString()
    for message in (b"\xff\xff", large[: len(large) - 1], b"\x1a\x00" * 20_000):
        with pytest.raises(InvalidRequest, match="no PredictRequest"):
            parse_predict(message)
    with pytest.raises(InvalidRequest, match="bytes beside its tensors"):
        parse_predict(PredictRequest(output_filter=["y" * (2 << 20)]).SerializeToString())


def test_a_tensor_of_more_dimensions_than_a_tensor_has_is_refused() -> None:
    proto = raw("UINT8", np.ones(1, np.uint8))
    for _ in range(70):
        proto.tensor_shape.dim.add(size=1)
    with pytest.raises(InvalidRequest, match="tensor parsing error: x"):
        WirePredict(request(x=proto)).tensors()
