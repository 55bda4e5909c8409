"""The reasons that the operator tells and those of the documentation are the same, word for word."""

import re
from pathlib import Path

from atalaya_operator import conditions, scaler_words
from atalaya_operator.explain.log_lines import FETCHERS_WORDS
from atalaya_operator.explain.reasons import ALL, Family, Reason
from atalaya_serving.fetching.errors import FetchError

DOCS = Path(__file__).parents[2] / "docs"


def row(one: Reason) -> str:
    step = re.sub(r"\{(\w+)\}", lambda found: f"*{found[1].replace('_', ' ')}*", one.step)
    return f"| `{one.word}` | {one.means} | {step.replace('|', chr(92) + '|') or '–'} |"


def test_each_reason_stands_in_the_documentation_with_its_meaning_and_its_next_step() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    told = re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE)
    wanted = [row(one) for family in Family for one in ALL if one.family == family]
    assert told == wanted, "\n".join(wanted)


def test_no_two_reasons_share_a_word() -> None:
    words = [one.word for one in ALL]
    assert len(set(words)) == len(words) > 30
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", word) for word in words)


def test_each_condition_is_documented() -> None:
    text = (DOCS / "operator.md").read_text()
    named = (conditions.READY, conditions.AVAILABLE, conditions.PROGRESSING, conditions.SCHEDULED,
             conditions.MODEL_LOADED, scaler_words.AUTOSCALING)  # fmt: skip
    for one in named:
        assert f"| `{one}` |" in text


def test_every_reason_of_the_fetch_container_is_known() -> None:
    told = {one.__name__ for one in FetchError.__subclasses__()}
    assert told == set(FETCHERS_WORDS)
