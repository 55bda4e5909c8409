"""Answers of the API server that several want within a moment."""

import pytest

from atalaya_operator.errors import TryAgain
from atalaya_operator.kept import KEEP_SECONDS, Kept


class Asked:
    def __init__(self) -> None:
        self.count, self.now = 0, 0.0
        self.kept = Kept[int](lambda: self.now)

    def ask(self) -> int:
        self.count += 1
        return self.count

    def fail(self) -> int:
        raise TryAgain("busy")


def test_what_was_answered_a_moment_ago_is_not_asked_again_and_later_it_is() -> None:
    asked = Asked()
    assert [asked.kept.get("a", asked.ask) for _ in range(3)] == [1, 1, 1]
    assert asked.kept.get("b", asked.ask) == 2
    asked.now = KEEP_SECONDS
    assert asked.kept.get("a", asked.ask) == 3


def test_what_could_not_be_asked_is_asked_again() -> None:
    asked = Asked()
    with pytest.raises(TryAgain):
        asked.kept.get("a", asked.fail)
    assert asked.kept.get("a", asked.ask) == 1
