"""The collector's history, and what it says of servers that do not answer."""

import urllib.error

import pytest

from atalaya_dashboard.collector import HISTORY_SECONDS, INTERVAL_SECONDS, Collector, fetch_text, reason_of
from atalaya_dashboard.errors import MetricsUnreadable
from builders_dashboard import FakeServer

URL = "http://here/metrics"


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_history_is_bounded() -> None:
    server, clock = FakeServer(), Clock()
    text = server.text()
    collector = Collector([URL], lambda url: text, clock)
    limit = int(HISTORY_SECONDS / INTERVAL_SECONDS)
    for _ in range(limit + 10):
        clock.now += INTERVAL_SECONDS
        collector.collect_once()
    (source,) = collector.sources()
    assert len(source.samples) == limit
    assert source.samples[-1].at == clock.now
    assert source.samples[0].at == clock.now - (limit - 1) * INTERVAL_SECONDS


def test_a_server_that_stops_answering_keeps_its_history_and_says_since_when() -> None:
    server, clock = FakeServer(), Clock()
    answers: list[str | OSError] = [server.text(), ConnectionRefusedError(), ConnectionRefusedError()]

    def fetch(url: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    collector = Collector([URL], fetch, clock)
    for _ in range(3):
        clock.now += 2
        collector.collect_once()
    (source,) = collector.sources()
    assert len(source.samples) == 1
    assert source.error == "nothing listens there"
    assert source.failing_since == 1004.0


def test_a_server_that_answers_again_is_well_again() -> None:
    server = FakeServer()
    answers = ["<html>", server.text()]
    collector = Collector([URL], lambda url: answers.pop(0))
    collector.collect_once()
    assert "Prometheus" in collector.sources()[0].error or "atalaya" in collector.sources()[0].error
    collector.collect_once()
    assert collector.sources()[0].error == ""


def test_one_bad_server_does_not_hide_the_other() -> None:
    text = FakeServer().text()

    def fetch(url: str) -> str:
        if "bad" in url:
            raise TimeoutError
        return text

    collector = Collector(["http://bad/metrics", URL], fetch)
    collector.collect_once()
    bad, good = collector.sources()
    assert bad.error.startswith("no answer within")
    assert good.error == ""
    assert len(good.samples) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError(ConnectionRefusedError()), "nothing listens there"),
        (urllib.error.URLError(TimeoutError()), "no answer within 2 seconds"),
        (urllib.error.HTTPError(URL, 404, "Not Found", None, None), "it answers HTTP 404"),  # type: ignore[arg-type]
    ],
)
def test_a_failure_is_told_in_words(error: Exception, words: str) -> None:
    assert reason_of(error) == words


def test_only_http_addresses_are_asked() -> None:
    with pytest.raises(MetricsUnreadable, match="http"):
        fetch_text("file:///etc/passwd")
