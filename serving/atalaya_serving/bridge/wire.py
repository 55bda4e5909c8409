"""Messages written in a single join, of parts that protobuf's wire format puts one behind the other.

upb would copy a tensor into its arena and out again, on both sides of the bridge. Here the bytes of a tensor go from
the message that came to the message that leaves as a view, copied once by `join`. Pure.
"""

import numpy as np

from atalaya_serving.datatypes import Tensor
from atalaya_serving.tensors import Buffer
from atalaya_serving.wire import packed_varint

Part = Buffer | Tensor
"""What `join` takes: bytes, views, and contiguous arrays, whose bytes they are."""


def delimited(tag: bytes, *parts: Part) -> list[Part]:
    """A field of these parts, behind its length."""
    return [tag + packed_varint(sum(map(size, parts))), *parts]


def size(part: Part) -> int:
    """The bytes of a part."""
    return part.nbytes if isinstance(part, (np.ndarray, memoryview)) else len(part)


def join(parts: list[Part]) -> bytes:
    """One message of its parts: the only copy of a tensor's bytes."""
    return b"".join(parts)  # type: ignore[arg-type]  # contiguous arrays are buffers; numpy's stubs do not say so


def packed_varints(tensor: Tensor) -> bytes:
    """Whole numbers as the value of a packed field; a negative one takes ten bytes, as protobuf has it."""
    flat = np.ascontiguousarray(tensor).reshape(-1)
    wide = flat.astype(np.int64).view(np.uint64) if flat.dtype.kind == "i" else flat.astype(np.uint64)
    if not wide.size or int(wide.max()) < 0x80:
        return wide.astype(np.uint8).tobytes()
    columns = np.empty((wide.size, 10), np.uint8)
    is_there = np.zeros((wide.size, 10), np.bool_)
    left = np.ones(wide.size, np.bool_)
    for column in range(10):
        low = (wide & np.uint64(0x7F)).astype(np.uint8)
        wide = wide >> np.uint64(7)
        is_there[:, column] = left
        left = left & (wide > 0)
        columns[:, column] = np.where(left, low | 0x80, low)
    return columns[is_there].tobytes()
