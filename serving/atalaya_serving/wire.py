"""Cuts the large parts out of a serialised protobuf message, so that what is left is small and quick to parse.

upb would copy a tensor twice (into its arena, then out as bytes), which at 1 MiB costs as much as all the rest of a
call; and a million strings take it longer than all other callers can wait. Cutting takes a bounded time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MOST_FIELDS = 4096
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Uncuttable(ValueError):
    """The message is damaged, or has a form that no client writes."""


@dataclass(slots=True)
class Cut:
    """What is left of a message, and the parts that were taken out, by field number and in their order."""

    rest: bytearray = field(default_factory=bytearray)
    parts: dict[int, list[memoryview]] = field(default_factory=dict)


Buffer = bytes | bytearray | memoryview
Replace = Callable[[memoryview], Buffer]
_NOTHING: Mapping[int, Replace] = MappingProxyType({})


class Cutter:
    """Walks messages with one bound on the number of fields for all of them."""

    def __init__(self) -> None:
        self._fields_left = MOST_FIELDS

    def cut(
        self,
        message: memoryview,
        take: frozenset[int],
        replace: Mapping[int, Replace] = _NOTHING,
        stop: frozenset[int] = frozenset(),
    ) -> Cut:
        """Take out the delimited fields `take`; put what `replace` makes of a field in its place. Raises Uncuttable.

        From the first of the fields `stop` on, all the rest of the message is one part: it may have very many.
        """
        made, at, end = Cut(), 0, len(message)
        rest, parts = made.rest, made.parts
        while at < end:
            start = at
            self._fields_left -= 1
            if self._fields_left < 0:
                raise Uncuttable
            tag, at = message[at], at + 1
            if tag > 0x7F:
                tag, at = short_varint(message, start)
            number = tag >> 3
            if number in stop:
                parts[number] = [message[start:]]
                break
            if tag & 7 != DELIMITED:
                at = skip(message, at, tag & 7)
                rest += message[start:at]
                continue
            length, begin = short_varint(message, at)
            at = begin + length
            if at > end:
                raise Uncuttable
            if number in take:
                parts.setdefault(number, []).append(message[begin:at])
            elif number in replace:
                rest += delimited(number, replace[number](message[begin:at]))
            else:
                rest += message[start:at]
        return made


def skip(message: memoryview, at: int, kind: int) -> int:
    """Where the number that begins at `at` ends. Raises Uncuttable."""
    if kind == VARINT:
        return varint(message, at)[1]
    if kind not in _FIXED or at + _FIXED[kind] > len(message):  # a group, which proto3 does not know, or cut short
        raise Uncuttable
    return at + _FIXED[kind]


def short_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The tag or the length at `at`, for which protobuf reads 32 bits in five bytes, and where it ends.

    Raises Uncuttable: what is taken out or written anew is a tag that no parser sees any more.
    """
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    value, end = varint(message, at)
    if end - at > 5 or value > 0xFFFFFFFF:
        raise Uncuttable
    return value, end


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends. Raises Uncuttable."""
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    value = shift = 0
    for position in range(at, min(at + 10, len(message))):
        byte = message[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise Uncuttable


def delimited(number: int, content: Buffer) -> bytes:
    """A delimited field as it travels."""
    if number < 16 and len(content) < 0x80:
        return bytes((number << 3 | DELIMITED, len(content))) + content
    return b"".join((packed_varint(number << 3 | DELIMITED), packed_varint(len(content)), content))


def packed_varint(number: int) -> bytes:
    """A number of 0 or more as it travels."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
