"""Strings into and out of OpenVINO's tensors, in memory that is proportional to their bytes.

OpenVINO's Python API takes and gives a string tensor as an array in which every element has the length of the longest:
one string of 1 MiB among 500 short ones is 500 MiB. And it cuts NUL bytes off the ends. Its operations StringTensorPack
and StringTensorUnpack know better; a graph of one such operation turns offsets and bytes into a tensor, and back.
"""

from functools import cache

import numpy as np
import openvino as ov
from openvino import opset15

from atalaya_serving.datatypes import Tensor
from atalaya_serving.engines.openvino import core

_MOST_BYTES = 2**31 - 1
"""The offsets have 32 bits."""
_ONE_THREAD = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}


@cache
def _packer(rank: int) -> ov.CompiledModel:
    begins, ends = (opset15.parameter([-1] * rank, ov.Type.i32) for _ in range(2))
    raw = opset15.parameter([-1], ov.Type.u8)
    result = opset15.result(opset15.string_tensor_pack(begins, ends, raw))
    return core().compile_model(ov.Model([result], [begins, ends, raw], "pack"), "CPU", _ONE_THREAD)


@cache
def _unpacker(rank: int) -> ov.CompiledModel:
    strings = opset15.parameter([-1] * rank, ov.Type.string)
    parts = opset15.string_tensor_unpack(strings).outputs()
    return core().compile_model(ov.Model([*map(opset15.result, parts)], [strings], "unpack"), "CPU", _ONE_THREAD)


class StringPort:
    """One string input or output of a slot. What it gives is good until it is asked again, or forgets."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._request: ov.InferRequest | None = None

    def tensor(self, given: Tensor) -> ov.Tensor:
        """The strings `given` as OpenVINO's. Raises OverflowError past 2 GiB."""
        if given.size == 0:  # the operation would leave what it packed before
            return ov.Tensor(ov.Type.string, list(given.shape))
        items = given.ravel().tolist()
        ends = np.cumsum(np.fromiter(map(len, items), np.int64, len(items)))
        if ends[-1] > _MOST_BYTES:
            raise OverflowError(f"{ends[-1]} bytes of strings are more than {_MOST_BYTES}")
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        raw = np.frombuffer(b"".join(items) or b"\0", np.uint8)  # an array that is empty cannot be taken
        request = self._request = self._request or _packer(self._rank).create_infer_request()
        for index, part in enumerate((begins, ends)):
            request.set_input_tensor(index, ov.Tensor(part.astype(np.int32).reshape(given.shape)))
        request.set_input_tensor(2, ov.Tensor(raw))
        request.start_async()
        request.wait()
        return request.get_output_tensor(0)

    def values(self, tensor: ov.Tensor) -> Tensor:
        """The strings of OpenVINO's tensor, as objects."""
        made = np.empty(tensor.size, object)
        if tensor.size:
            request = self._request = self._request or _unpacker(self._rank).create_infer_request()
            request.set_input_tensor(0, tensor)
            request.start_async()
            request.wait()
            begins, ends = (request.get_output_tensor(index).data.ravel().tolist() for index in (0, 1))
            raw = request.get_output_tensor(2).data.tobytes()
            made[:] = [raw[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return made.reshape(tuple(tensor.shape))

    def forget(self) -> None:
        """Hold no memory."""
        self._request = None
