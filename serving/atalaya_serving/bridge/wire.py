"""Protobuf's wire format, as far as tensors need it: walk a message without copying it, write one in a single join.

upb would copy a tensor into its arena and out again, on both sides of the bridge. Here the bytes of a tensor go from
the message that came to the message that leaves as a view, copied once by `join`. Pure.
"""

from collections.abc import Iterator

import numpy as np

from atalaya_serving.datatypes import Tensor
from atalaya_serving.tensors import Buffer

Part = Buffer | Tensor
"""What `join` takes: bytes, views, and contiguous arrays, whose bytes they are."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Odd(ValueError):
    """Not made as one expects: protobuf's own parser shall judge it."""


def fields(message: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field between two positions: its tag, where it begins, where its value begins, where it ends. Raises Odd."""
    while at < end:
        begin = at
        tag, at = read_varint(message, at, end)
        kind = tag & 7
        if kind == LENGTH:
            length, at = read_varint(message, at, end)
            value, at = at, at + length
        elif kind == VARINT:
            value = at
            _, at = read_varint(message, at, end)
        elif kind in _FIXED:
            value, at = at, at + _FIXED[kind]
        else:
            raise Odd(f"wire type {kind}")
        if at > end:
            raise Odd("a field ends past its message")
        yield tag, begin, value, at


def read_varint(message: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises Odd."""
    value = shift = 0
    while at < end and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Odd("a number without an end")


def varint(number: int) -> bytes:
    """A number that is not negative, as it travels."""
    if number < 0x80:
        return bytes((number,))
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def delimited(tag: bytes, *parts: Part) -> list[Part]:
    """A field of these parts, behind its length."""
    return [tag + varint(sum(map(size, parts))), *parts]


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
