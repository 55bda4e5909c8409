"""PredictRequests are cut as protobuf would read them, and their values are left alone until they are wanted."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaya_serving.datatypes import Encoded
from atalaya_serving.errors import InvalidRequest
from atalaya_serving.tfs.messages import PredictRequest, TensorProto
from atalaya_serving.tfs.predict_wire import WirePredict, cut_predict, parse_predict
from atalaya_serving.tfs.tensors import data_type, to_proto
from atalaya_serving.wire import Uncuttable


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


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_requests_are_refused_or_read_as_protobuf_reads_them(data: st.DataObject) -> None:
    message = bytearray(
        request(x=raw("UINT8", np.ones(40, np.uint8)), z=to_proto("INT32", np.arange(9))).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        cut = read(cut_predict(bytes(message)))
    except (Uncuttable, DecodeError, InvalidRequest):
        return
    try:
        whole = PredictRequest.FromString(bytes(message))
    except DecodeError:
        return  # damage in fields that nobody reads: cutting skips them, protobuf looks into them
    assert cut == read(WirePredict(whole))


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
