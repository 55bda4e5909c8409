"""Tensors to and from the bytes and the values that travel in KServe v2. Pure; every refusal says what was expected.

BYTES travel as each element's length (4 bytes, little endian) and its bytes.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from atalaya_serving.datatypes import BF16, BYTES, NUMPY, OBJECT, Encoded, Tensor, is_known
from atalaya_serving.errors import InvalidRequest

Buffer = bytes | bytearray | memoryview
_LENGTH = struct.Struct("<I")
MAX_RANK = 32
MAX_ELEMENTS = 2**40


def check_declared(name: str, datatype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple. Raises InvalidRequest for a datatype or a shape that cannot be."""
    if not is_known(datatype):
        raise InvalidRequest(f"input {name!r} has datatype {datatype!r}; KServe v2 knows {', '.join((*NUMPY, BYTES))}.")
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"input {name!r} has {len(shape)} dimensions; a tensor has at most {MAX_RANK}.")
    if any(size < 0 for size in shape):
        raise InvalidRequest(f"input {name!r} has shape {list(shape)}; a request gives every size, none below 0.")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:  # a zero among them makes it empty, not small
        raise InvalidRequest(f"input {name!r} has shape {list(shape)}; that is more than any message can carry.")
    return tuple(shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: Buffer) -> Tensor:
    """A view of `raw` as a tensor (for BYTES a copy). Raises InvalidRequest when the byte count does not fit."""
    made = from_raw_later(name, datatype, shape, raw)
    return made.decode() if isinstance(made, Encoded) else made


def from_raw_later(name: str, datatype: str, shape: Sequence[int], raw: Buffer) -> Tensor | Encoded:
    """The same, but strings are left to be decoded where they are computed."""
    sizes = check_declared(name, datatype, shape)
    if datatype == BYTES:
        return Encoded(sizes, OBJECT, len(raw), partial(_strings, name, raw, sizes))
    dtype = NUMPY[datatype]
    expected = math.prod(sizes) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"input {name!r} has {len(raw)} bytes; {datatype} of shape {list(sizes)} is {expected} bytes."
        )
    return np.frombuffer(raw, dtype=dtype).reshape(sizes)


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[object]) -> Tensor:
    """A tensor of the values of typed contents or JSON, row-major. Raises InvalidRequest when they do not fit."""
    return of_values(name, datatype, check_declared(name, datatype, shape), values)


def of_values(name: str, datatype: str, sizes: tuple[int, ...], values: Sequence[object]) -> Tensor:
    """The same for a datatype and a shape that are checked."""
    count = math.prod(sizes)
    if datatype == BF16:
        raise InvalidRequest(f"input {name!r} is BF16, which travels as raw bytes only; send raw or binary contents.")
    if len(values) != count:
        raise InvalidRequest(f"input {name!r} has {len(values)} values; shape {list(sizes)} is {count}.")
    if datatype == BYTES:
        return _objects(_as_bytes(name, value) for value in values).reshape(sizes)
    return _numbers(name, datatype, values).reshape(sizes)


def to_raw(datatype: str, tensor: Tensor) -> bytes:
    """The bytes of a tensor as they travel."""
    if datatype == BYTES:
        return b"".join(struct.pack("<I", len(item)) + item for item in tensor.ravel().tolist())
    return tensor.tobytes()


def _numbers(name: str, datatype: str, values: Sequence[object]) -> Tensor:
    dtype = NUMPY[datatype]
    try:
        plain = np.asarray(values) if len(values) else np.empty(0, dtype)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"input {name!r} has values that are no {datatype}: {error}.") from error
    if plain.ndim != 1 or plain.dtype.kind not in "buif":
        raise InvalidRequest(f"input {name!r} has values that are not all numbers; {datatype} needs numbers.")
    wanted = dtype.kind
    if (wanted in "ui" and plain.dtype.kind not in "ui") or (wanted == "b") != (plain.dtype.kind == "b"):
        raise InvalidRequest(f"input {name!r} has {plain.dtype} values, not {datatype}.")
    if wanted in "ui" and plain.size:
        limits = np.iinfo(dtype)  # type: ignore[type-var]
        if int(plain.min()) < limits.min or int(plain.max()) > limits.max:
            raise InvalidRequest(f"input {name!r} has values outside {datatype} ({limits.min} to {limits.max}).")
    with np.errstate(over="ignore"):
        return plain.astype(dtype)


def _strings(name: str, raw: Buffer, sizes: tuple[int, ...]) -> Tensor:
    data, at, found, count = bytes(raw), 0, [], math.prod(sizes)
    end, unpack = len(data), _LENGTH.unpack_from
    while at < end:
        if at + 4 > end:
            raise InvalidRequest(f"input {name!r} ends inside a BYTES length at byte {at}.")
        (length,) = unpack(data, at)
        begin, at = at + 4, at + 4 + length
        if at > end:
            raise InvalidRequest(f"input {name!r} has a BYTES element of {length} bytes that ends past its data.")
        found.append(data[begin:at])
    if len(found) != count:
        raise InvalidRequest(f"input {name!r} has {len(found)} BYTES elements; its shape is {count}.")
    return _objects(found).reshape(sizes)


def _objects(items: Iterable[bytes]) -> Tensor:
    listed = list(items)
    made = np.empty(len(listed), dtype=object)
    made[:] = listed
    return made


def _as_bytes(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise InvalidRequest(f"input {name!r} is BYTES and has a {type(value).__name__} value; send strings.")
