"""Messages that are made alike: the next one is converted by comparing two ends and moving the tensor between them.

A client sends the same model, names, dtypes and shapes again and again; only the tensor's bytes differ. Once such a
message has been read and written the long way, what stood before and after its tensor says how all of its kind are
written: when both ends and the length are equal, byte by byte, so is everything that could be read from them.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from atalaya_serving.bridge import wire
from atalaya_serving.datatypes import Tensor

_MOST_LENGTHS, _MOST_ALIKE, _MOST_END_BYTES = 256, 8, 4096

T = TypeVar("T")


class Template(Generic[T]):
    """One kind of message. `about` is what was read from it."""

    __slots__ = ("_after", "_before", "_length", "_new_after", "_new_before", "_until", "about")

    def __init__(self, message: bytes, span: tuple[int, int], new_ends: tuple[bytes, bytes], about: T) -> None:
        begin, self._until = span
        self._before, self._after, self._length = message[:begin], message[self._until :], len(message)
        self._new_before, self._new_after = new_ends
        self.about = about

    def fits(self, message: bytes) -> bool:
        """Whether `message` is of this kind."""
        return len(message) == self._length and message.startswith(self._before) and message.endswith(self._after)

    def write(self, message: bytes) -> bytes:
        """What a message of this kind becomes."""
        return b"".join((self._new_before, memoryview(message)[len(self._before) : self._until], self._new_after))


class Templates(Generic[T]):
    """The kinds that were seen, a bounded number of them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Template[T], ...]] = {}

    def find(self, message: bytes) -> Template[T] | None:
        """The kind of `message`, if it is known."""
        for template in self._known.get(len(message), ()):
            if template.fits(message):
                return template
        return None

    def add(self, message: bytes, template: Template[T]) -> None:
        """Remember the kind of `message`; the oldest give way."""
        if len(self._known) >= _MOST_LENGTHS:
            self._known.clear()
        self._known[len(message)] = (template, *self._known.get(len(message), ())[: _MOST_ALIKE - 1])


def learn(
    message: bytes, tensors: Sequence[tuple[str, Tensor]], parts: Sequence[wire.Part], about: T
) -> Template[T] | None:
    """The kind of a message that was read as `tensors` (datatype, values) and written as `parts`.

    None unless it is one tensor, whose bytes went from the one to the other as they were. BOOL is left out: whether
    its bytes are truths depends on them.
    """
    if len(tensors) != 1 or tensors[0][0] == "BOOL" or tensors[0][1].dtype == object or not tensors[0][1].nbytes:
        return None
    tensor = tensors[0][1]
    begin = _address(tensor) - _address(np.frombuffer(message, np.uint8))
    until = begin + tensor.nbytes
    moved = [index for index, part in enumerate(parts) if isinstance(part, np.ndarray)]
    if not (0 <= begin <= until <= len(message)) or len(moved) != 1 or len(message) - tensor.nbytes > _MOST_END_BYTES:
        return None
    part: Any = parts[moved[0]]
    if _address(part) != _address(tensor) or part.nbytes != tensor.nbytes:
        return None
    ends = wire.join(list(parts[: moved[0]])), wire.join(list(parts[moved[0] + 1 :]))
    return Template(message, (begin, until), ends, about)


def _address(tensor: Tensor) -> int:
    return int(tensor.__array_interface__["data"][0])
