"""Asks each server for its metrics every few seconds and keeps the last half hour, in one thread for all viewers.

The pages only read what is here; a slow or missing server never makes a page wait.
"""

import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atalaya_dashboard.errors import MetricsUnreadable
from atalaya_dashboard.metrics import Sample, parse

INTERVAL_SECONDS = 2.0
HISTORY_SECONDS = 30 * 60.0
TIMEOUT_SECONDS = 2.0
_MAX_BYTES = 8 << 20

Fetch = Callable[[str], str]


@dataclass(frozen=True)
class Source:
    """One address and what is known of it. `error` is empty while it answers."""

    url: str
    samples: tuple[Sample, ...]
    error: str
    failing_since: float | None


class Collector:
    """The bounded history of every address. Thread-safe; `collect_once` is one round, `start` repeats it."""

    def __init__(self, urls: Sequence[str], fetch: Fetch | None = None, clock: Callable[[], float] = time.time) -> None:
        self._urls = tuple(urls)
        self._fetch = fetch or fetch_text
        self._clock = clock
        self._lock = threading.Lock()
        length = int(HISTORY_SECONDS / INTERVAL_SECONDS)
        self._samples: dict[str, deque[Sample]] = {url: deque(maxlen=length) for url in self._urls}
        self._errors: dict[str, tuple[str, float]] = {}
        self._stopping = threading.Event()

    def start(self) -> "Collector":
        """Collect in the background until `stop`."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()
        return self

    def stop(self) -> None:
        """End the background thread after its present round."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.collect_once()
            self._stopping.wait(INTERVAL_SECONDS)

    def collect_once(self) -> None:
        """Ask every address once. A failure is remembered with when it began, and never raised."""
        for url in self._urls:
            try:
                sample = parse(self._fetch(url), self._clock())
            except (OSError, MetricsUnreadable) as error:
                with self._lock:
                    since = self._errors.get(url, ("", self._clock()))[1]
                    self._errors[url] = (reason_of(error), since)
            else:
                with self._lock:
                    self._samples[url].append(sample)
                    self._errors.pop(url, None)

    def sources(self) -> tuple[Source, ...]:
        """What is known now."""
        with self._lock:
            return tuple(self._source(url) for url in self._urls)

    def _source(self, url: str) -> Source:
        error, since = self._errors.get(url, ("", None))
        return Source(url, tuple(self._samples[url]), error, since)


def fetch_text(url: str) -> str:
    """GET an http(s) address. Raises OSError (which URLError is) when there is no good answer in time."""
    if not url.startswith(("http://", "https://")):
        raise MetricsUnreadable("the address is not http:// or https://; correct ATALAYA_METRICS_URLS.")
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme is checked above
        content: bytes = answer.read(_MAX_BYTES)
    return content.decode("utf-8", errors="replace")


def reason_of(error: Exception) -> str:
    """In words, why an address gave nothing."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers HTTP {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} seconds"
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there"
    return str(cause) or type(cause).__name__
