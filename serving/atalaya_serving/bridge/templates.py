"""Messages that are made alike: the next one is converted by comparing what is no tensor, and moving the tensors.

A client sends the same model, names, dtypes and shapes again and again; only the tensors' bytes differ. Once such a
message has been read and written the long way, what stands around its tensors says how all of its kind are written:
when that and the length are equal, byte by byte, so is everything that could be read from them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

from atalaya_serving.bridge import wire
from atalaya_serving.datatypes import Tensor

_MOST_LENGTHS, _MOST_ALIKE, _MOST_FIXED_BYTES = 256, 8, 4096

T = TypeVar("T")
Span = tuple[int, int]


class Template(Generic[T]):
    """One kind of message. `about` is what was read from it."""

    __slots__ = ("_fixed", "_length", "_written", "about")

    def __init__(self, message: bytes, spans: Sequence[Span], written: Sequence[bytes | Span], about: T) -> None:
        """`spans` are the tensors in `message`; `written` is what it becomes, a tensor by its span."""
        begins, ends = [0, *(until for _, until in spans)], [*(begin for begin, _ in spans), len(message)]
        self._fixed = [(begin, message[begin:end]) for begin, end in zip(begins, ends, strict=True)]
        self._length, self._written, self.about = len(message), written, about

    def fits(self, message: bytes) -> bool:
        """Whether `message` is of this kind."""
        return len(message) == self._length and all(message.startswith(part, at) for at, part in self._fixed)

    def write(self, message: bytes) -> bytes:
        """What a message of this kind becomes."""
        view = memoryview(message)
        return b"".join([part if type(part) is bytes else view[part[0] : part[1]] for part in self._written])


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

    None unless the bytes of every tensor went from the one to the other as they were. BOOL is left out: whether its
    bytes are truths depends on them.
    """
    if not tensors or len(message) - sum(tensor.nbytes for _, tensor in tensors) > _MOST_FIXED_BYTES:
        return None
    if any(datatype == "BOOL" or tensor.dtype == object or not tensor.nbytes for datatype, tensor in tensors):
        return None
    base = _address(np.frombuffer(message, np.uint8))
    spans = sorted(_span(tensor, base) for _, tensor in tensors)
    written: list[bytes | Span] = [_span(part, base) if isinstance(part, np.ndarray) else bytes(part) for part in parts]
    is_inside = all(0 <= begin <= until <= len(message) for begin, until in spans)
    is_apart = all(one[1] <= other[0] for one, other in pairwise(spans))
    if not (is_inside and is_apart) or sorted(part for part in written if isinstance(part, tuple)) != spans:
        return None
    return Template(message, spans, written, about)


def _span(tensor: Tensor, base: int) -> Span:
    """Where a tensor's bytes lie, from an address on."""
    begin = _address(tensor) - base
    return begin, begin + tensor.nbytes


def _address(tensor: Tensor) -> int:
    return int(tensor.__array_interface__["data"][0])
