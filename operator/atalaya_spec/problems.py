"""What is wrong with a file: one problem is where, what, and what to do. All problems of a file are told at once.

Also the suggestions: the nearest word that would have been right.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atalaya_spec.errors import AtalayaError


class Refused(ValueError):
    """One value cannot be what its field needs. Readers raise it; whoever knows the path turns it into a Problem."""

    def __init__(self, fact: str, next_step: str) -> None:
        super().__init__(f"{fact}; {next_step}")
        self.fact, self.next_step = fact, next_step


@dataclass(frozen=True)
class Problem:
    """One finding. `path` is the field, as in `spec.devices[1]`; `line` counts from 1, 0 when unknown."""

    path: str
    fact: str
    next_step: str
    source: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        told = f"{self.fact}; {self.next_step}"
        return ": ".join(part for part in (where, self.path, told if told.endswith("?") else f"{told}.") if part)


class InvalidInferenceModel(AtalayaError):
    """One or more InferenceModel files cannot be used; `problems` has all of what is wrong with them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest of `known`, ignoring case and underscores; empty when none is near."""
    folded = {_folded(word): word for word in known}
    close = difflib.get_close_matches(_folded(given), list(folded), n=1, cutoff=0.7)
    return f"did you mean {folded[close[0]]!r}?" if close else ""


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`, for a message."""
    listed = list(words)
    return f"{', '.join(listed[:-1])} or {listed[-1]}" if len(listed) > 1 else "".join(listed)


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
