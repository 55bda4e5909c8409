"""The seam between load and protocols: what a client of one server, one model and one protocol can do.

Requests are made once, as bytes, before the clock runs: what is measured is the server and the transport, not how fast
Python builds tensors. Answers stay bytes too, but for `outputs`, which checks one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.datatypes import Tensor


@dataclass(frozen=True)
class Caller:
    """One caller: `call` sends a request and gives the answer, or raises CallFailed; used by one thread at a time."""

    call: Callable[[bytes], bytes]
    close: Callable[[], None]


class Client(Protocol):
    """One model of one server over one protocol."""

    def inputs(self) -> list[InputSpec]:
        """What the server tells of the model's inputs; may be empty. Raises CallFailed."""

    def request(self, given: Mapping[str, tuple[str, Tensor]]) -> bytes:
        """A request's bytes from datatype and tensor by name."""

    def outputs(self, answer: bytes) -> Sequence[Tensor]:
        """The tensors in an answer. Raises CallFailed when it is none."""

    def caller(self) -> Caller:
        """A new caller."""

    def close(self) -> None:
        """Give up all connections; calls on their way fail."""


def unusable(code: str, what: str, error: Exception) -> str:
    """The line for an answer that is no answer."""
    return f"{what} gave no usable answer ({type(error).__name__}: {error}; status {code}); see the server's log."
