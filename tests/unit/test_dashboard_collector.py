"""The collector's history, and what it says of servers that do not answer."""

import subprocess
import sys
import urllib.error

import pytest

from atalaya_dashboard.collector import (
    HISTORY_SECONDS,
    INTERVAL_SECONDS,
    Collector,
    Served,
    Target,
    fetch_text,
    reason_of,
)
from atalaya_dashboard.errors import MetricsUnreadable
from atalaya_dashboard.metrics import ModelKey
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
    collector = Collector(lambda: [Target(URL)], lambda url: text, clock)
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

    collector = Collector(lambda: [Target(URL)], fetch, clock)
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
    collector = Collector(lambda: [Target(URL)], lambda url: answers.pop(0))
    collector.collect_once()
    assert "Prometheus" in collector.sources()[0].error or "model server" in collector.sources()[0].error
    collector.collect_once()
    assert collector.sources()[0].error == ""


def test_one_bad_server_does_not_hide_the_other() -> None:
    text = FakeServer().text()

    def fetch(url: str) -> str:
        if "bad" in url:
            raise TimeoutError
        return text

    collector = Collector(lambda: [Target("http://bad/metrics"), Target(URL)], fetch)
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


HAITI = Served("relief", "haiti-damage", "atalaya")
KEY = ModelKey("haiti-damage", "1", "relief")


class Pods:
    """Pods of one model, each with counts of its own."""

    def __init__(self, *names: str) -> None:
        self.servers = {name: FakeServer() for name in names}
        self.silent: set[str] = set()

    def targets(self) -> list[Target]:
        return [Target(f"http://{name}/metrics", HAITI, name) for name in self.servers]

    def fetch(self, url: str) -> str:
        name = url.split("/")[2]
        if name in self.silent:
            raise ConnectionRefusedError
        return self.servers[name].text()


def collected(pods: Pods) -> tuple[Collector, Clock]:
    clock = Clock()
    return Collector(pods.targets, pods.fetch, clock), clock


def test_the_pods_of_a_model_are_one_history() -> None:
    pods = Pods("a", "b")
    collector, clock = collected(pods)
    collector.collect_once()
    for name, seconds in (("a", 0.004), ("b", 0.2)):
        pods.servers[name].answer(seconds, times=10)
        pods.servers[name].queue.labels("haiti-damage", "1").set(3)
    clock.now += 10
    collector.collect_once()
    (source,) = collector.sources()
    assert (source.name, source.pods, source.models()) == ("relief/haiti-damage", 2, [KEY])
    assert "2 pods together" in source.about
    found = source.lately(KEY, 60.0)
    assert found is not None
    assert (found.window.requests, found.window.requests_per_second, found.window.queue_depth) == (20, 2.0, 6)
    assert found.window.p50 < 0.01
    assert found.window.p95 > 0.1


def test_a_pod_that_goes_or_comes_makes_no_spike() -> None:
    pods = Pods("a", "b")
    for server in pods.servers.values():
        server.answer(0.004, times=1000)
    collector, clock = collected(pods)
    collector.collect_once()
    del pods.servers["b"]
    late = FakeServer()
    late.answer(0.004, times=500)
    pods.servers["c"] = late
    pods.servers["a"].answer(0.004, times=4)
    for _ in range(2):
        clock.now += 2
        collector.collect_once()
    late.answer(0.004, times=3)
    clock.now += 2
    collector.collect_once()
    (source,) = collector.sources()
    found = source.lately(KEY, 60.0)
    assert found is not None
    assert found.window.requests == 7
    whole = source.whole(KEY)
    assert whole is not None
    assert whole.window.requests == 2007


def test_a_pod_that_starts_again_counts_from_nothing() -> None:
    pods = Pods("a", "b")
    for server in pods.servers.values():
        server.answer(0.004, times=1000)
    collector, clock = collected(pods)
    collector.collect_once()
    pods.servers["b"] = FakeServer()
    pods.servers["b"].answer(0.004, times=5)
    clock.now += 2
    collector.collect_once()
    found = collector.sources()[0].lately(KEY, 60.0)
    assert found is not None
    assert found.window.requests == 5


def test_a_pod_that_gives_nothing_is_named_and_the_others_go_on() -> None:
    pods = Pods("a", "b")
    collector, clock = collected(pods)
    collector.collect_once()
    pods.silent = {"b"}
    pods.servers["a"].answer(0.004, times=2)
    clock.now += 2
    collector.collect_once()
    (source,) = collector.sources()
    assert source.error == "1 of 2 pods give no metrics (b: nothing listens there)"
    assert not source.is_silent
    found = source.lately(KEY, 60.0)
    assert found is not None
    assert found.window.requests == 2
    pods.silent = {"a", "b"}
    collector.collect_once()
    assert collector.sources()[0].is_silent


def test_a_model_that_tells_nothing_before_its_first_request_is_there_all_the_same() -> None:
    served = Served("relief", "m", "tensorflow")
    collector = Collector(lambda: [Target("http://a/metrics", served, "a")], lambda url: "\n")
    collector.collect_once()
    collector.collect_once()
    (source,) = collector.sources()
    assert (source.error, source.waiting) == ("", "")
    found = source.lately(ModelKey("m", "", "relief"), 60.0)
    assert found is not None
    assert found.never_asked
    assert found.window.server == "TensorFlow Serving"
    assert found.window.queue_depth is None


def test_models_that_are_gone_are_forgotten() -> None:
    pods = Pods("a")
    collector, _ = collected(pods)
    collector.collect_once()
    pods.servers.clear()
    collector.collect_once()
    assert collector.sources() == ()


def test_an_interpreter_that_ends_in_the_middle_of_a_round_says_nothing() -> None:
    """Also while it still waits for what other threads were lent."""
    program = """
import concurrent.futures.thread as pools, threading, time
from atalaya_dashboard.collector import Collector, Target

begun = threading.Event()

def until_the_end():
    begun.set()
    while not pools._shutdown:
        time.sleep(0.001)

def targets():
    until_the_end()
    return [Target("http://here/metrics")]

Collector(targets, lambda url: "").start()
(round,) = [thread for thread in threading.enumerate() if thread.name == "metrics"]
pools.ThreadPoolExecutor(1).submit(lambda: (until_the_end(), round.join(0.5)))
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
