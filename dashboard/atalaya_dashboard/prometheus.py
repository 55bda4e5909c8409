"""Asks a Prometheus for every model of every engine, in one thread for all viewers. It kept the history already.

The first answer brings the last half hour; each later one the present, so that Prometheus computes little.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from atalaya_dashboard.collector import HISTORY_SECONDS, reason_of
from atalaya_dashboard.errors import PrometheusUnreadable
from atalaya_dashboard.metrics import Lately, ModelKey, Window
from atalaya_dashboard.promql import WINDOW_SECONDS, query, told
from atalaya_dashboard.watched import Whole
from atalaya_spec.signals import ALL, Signals

INTERVAL_SECONDS = 5.0
STEP_SECONDS = 20
"""Between two moments of the half hour before the first answer."""
_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 64 << 20

Moment = tuple[float, Mapping[ModelKey, Window]]
Ask = Callable[[str, Mapping[str, str]], list[Any]]


@dataclass(frozen=True)
class PrometheusSource:
    """What a Prometheus told of the last half hour; see `Watched`."""

    name: str
    moments: tuple[Moment, ...]
    failure: str = ""

    @property
    def about(self) -> str:
        """Where the figures come from, and over how long each is."""
        return (
            f"Prometheus at {self.name} · each figure is over {WINDOW_SECONDS // 60} minutes and all pods of the model"
        )

    @property
    def error(self) -> str:
        """What is wrong with it."""
        return self.failure

    @property
    def advice(self) -> str:
        """What to do about it."""
        return "Is it running? ATALAYA_PROMETHEUS_URL says where these pages look."

    @property
    def is_silent(self) -> bool:
        """Whether its last figures are old."""
        return bool(self.failure)

    @property
    def waiting(self) -> str:
        """Why there is nothing to show yet."""
        if self.failure or self.models():
            return ""
        if not self.moments:
            return "waiting for the first answer …"
        return (
            "this Prometheus knows no model; does it scrape the models' pods? Their annotations `prometheus.io/…` "
            "say where."
        )

    def models(self) -> Sequence[ModelKey]:
        """The models of the last answer."""
        return sorted(self.moments[-1][1], key=str) if self.moments else ()

    def lately(self, key: ModelKey, seconds: float) -> Lately | None:  # noqa: ARG002 - Prometheus' own window
        """The present."""
        found = self.moments[-1][1].get(key) if self.moments else None
        return None if found is None else Lately(found, idle=not found.requests)

    def history(self, key: ModelKey, seconds: float, points: int) -> Sequence[tuple[float, Window]]:
        """The moments, thinned to so many."""
        since = self.moments[-1][0] - seconds if self.moments else 0.0
        kept: list[tuple[float, Window]] = []
        for at, models in self.moments:
            is_due = not kept or at - kept[-1][0] >= seconds / points - 1e-6
            if at >= since and is_due and key in models:
                kept.append((at, models[key]))
        return kept

    def whole(self, key: ModelKey) -> Whole | None:  # noqa: ARG002
        """It is not asked for."""
        return None


class PrometheusWatch:
    """The last half hour. Thread-safe; `ask_once` is one round, `start` repeats it."""

    def __init__(self, url: str, ask: Ask | None = None, clock: Callable[[], float] = time.time) -> None:
        self._url = url.rstrip("/")
        self._ask = ask or self._asked
        self._clock = clock
        self._moments: tuple[Moment, ...] = ()
        self._failure = ""
        self._stopping = threading.Event()

    def start(self) -> "PrometheusWatch":
        """Ask in the background until `stop`."""
        threading.Thread(target=self._run, name="prometheus", daemon=True).start()
        return self

    def stop(self) -> None:
        """End the background thread after its present round."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.ask_once()
            self._stopping.wait(INTERVAL_SECONDS)

    def ask_once(self) -> None:
        """One round over the engines. A failure is remembered and never raised."""
        at = self._clock()
        try:
            fresh = self._range(at) if not self._moments else self._instant(at)
        except PrometheusUnreadable as error:
            self._failure = str(error)
            return
        times = [moment[0] for moment in self._moments]
        kept = self._moments[bisect_left(times, at - HISTORY_SECONDS) :]
        self._moments, self._failure = (*kept, *fresh), ""

    def source(self) -> PrometheusSource:
        """What is known now."""
        return PrometheusSource(self._url, self._moments, self._failure)

    def _range(self, at: float) -> list[Moment]:
        span = {"start": f"{at - HISTORY_SECONDS:.3f}", "end": f"{at:.3f}", "step": str(STEP_SECONDS)}
        return self._engines("query_range", span) or [(at, {})]

    def _instant(self, at: float) -> list[Moment]:
        return self._engines("query", {"time": f"{at:.3f}"}) or [(at, {})]

    def _engines(self, path: str, more: Mapping[str, str]) -> list[Moment]:
        joined: dict[float, dict[ModelKey, Window]] = {}
        for signals in ALL:
            for at, models in self._of(signals, path, more).items():
                joined.setdefault(at, {}).update(models)
        return sorted(joined.items())

    def _of(self, signals: Signals, path: str, more: Mapping[str, str]) -> Mapping[float, Mapping[ModelKey, Window]]:
        try:
            return told(self._ask(path, {"query": query(signals), **more}), signals)
        except (ValueError, KeyError, TypeError) as error:
            raise PrometheusUnreadable(f"it answers, but not as a Prometheus does ({error!r})") from error

    def _asked(self, path: str, given: Mapping[str, str]) -> list[Any]:
        """The result of a query, by POST: a query is longer than an address should be."""
        url = f"{self._url}/api/v1/{path}"
        if not url.startswith(("http://", "https://")):
            raise PrometheusUnreadable("the address is not http:// or https://")
        request = urllib.request.Request(url, data=urlencode(given).encode())  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                content: Any = json.loads(answer.read(_MAX_BYTES))
        except urllib.error.HTTPError as error:
            raise PrometheusUnreadable(_words(error)) from error
        except (OSError, HTTPException) as error:
            raise PrometheusUnreadable(reason_of(error, _TIMEOUT_SECONDS)) from error
        result: list[Any] = content["data"]["result"]
        return result


def _words(error: urllib.error.HTTPError) -> str:
    """What Prometheus says of a query that it refuses."""
    try:
        return " ".join(str(json.loads(error.read(1 << 16))["error"]).split())
    except (OSError, ValueError, KeyError, TypeError):
        return f"it answers HTTP {error.code}"
