"""The table of differences is the one that the page shows, and every row of it is asked for by a test."""

import re
from pathlib import Path

import pytest

from conformance.differences import TABLE, Difference, markdown

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
ASKING = "\n".join(file.read_text() for file in (ROOT / "tests" / "conformance").glob("test_*.py"))


def test_the_page_shows_the_table_that_the_suite_holds() -> None:
    assert markdown() in PAGE.read_text(), f"write this into {PAGE.name}:\n{markdown()}"


def test_no_difference_is_told_twice() -> None:
    asked = [one.asked for one in TABLE]
    assert sorted(set(asked)) == sorted(asked)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.asked)
def test_every_difference_is_asked_for_and_explained(row: Difference) -> None:
    """What is asked over both protocols, or in both compressions, has its name put together in the test."""
    stem = re.sub(r"(,( over)? (gRPC|HTTP)| deflate)$", "", row.asked)
    assert stem in ASKING, "no test asks for it"
    assert len({row.atalaya, row.triton, row.mlserver}) > 1, "no difference"
    assert row.why.endswith(".")
