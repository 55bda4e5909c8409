"""Asks each server for its metrics every few seconds and keeps the last half hour, in one thread for all viewers.

The pages only read what is here; a slow or missing server never makes a page wait, nor another server.
"""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException

from atalaya_dashboard import metrics
from atalaya_dashboard.errors import MetricsUnreadable
from atalaya_dashboard.exposition import parse
from atalaya_dashboard.metrics import Lately, ModelKey, ModelSample, Sample, Window
from atalaya_dashboard.pooled import Pooled
from atalaya_dashboard.watched import Whole
from atalaya_spec.signals import BY_ENGINE

INTERVAL_SECONDS = 2.0
HISTORY_SECONDS = 30 * 60.0
TIMEOUT_SECONDS = 2.0
_MAX_BYTES = 8 << 20
_AT_A_TIME = 8

Fetch = Callable[[str], str]


@dataclass(frozen=True)
class Served:
    """An InferenceModel whose pods are asked."""

    namespace: str
    name: str
    engine: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Target:
    """One address to ask, and the model of the cluster whose pod it is; None where only the address is known."""

    url: str
    served: Served | None = None
    pod: str = ""

    @property
    def source(self) -> str:
        """The name of the history that it adds to."""
        return str(self.served) if self.served else self.url


@dataclass(frozen=True)
class Source:
    """One history and what is known of it; see `Watched`. `failing` says why of each address that gives nothing."""

    name: str
    samples: tuple[Sample, ...]
    failing: Mapping[str, str] = field(default_factory=dict)
    failing_since: float | None = None
    pods: int = 0
    """How many pods of a model are asked; 0 for a plain address."""

    @property
    def about(self) -> str:
        """Where the figures come from, and what the server tells of itself."""
        if not self.samples:
            return self.name
        latest = self.samples[-1]
        server = next((one.server for one in latest.models.values()), "")
        if self.pods:
            more = ["1 pod" if self.pods == 1 else f"{self.pods} pods together"]
        else:
            more = [f"{name} {value}" for name, value in sorted(latest.info.items())]
        return " · ".join(part for part in (self.name, server, *more) if part)

    @property
    def error(self) -> str:
        """What is wrong with it."""
        if not self.failing:
            return ""
        who, reason = next(iter(self.failing.items()))
        return f"{len(self.failing)} of {self.pods} pods give no metrics ({who}: {reason})" if self.pods else reason

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.pods:
            return "See the page Models; a NetworkPolicy may keep these pages from the pods."
        return "Is the server running? `atalaya up` starts one; ATALAYA_METRICS_URLS says where these pages look."

    @property
    def is_silent(self) -> bool:
        """Whether no address of it answers."""
        return bool(self.failing) and len(self.failing) >= self.pods

    @property
    def waiting(self) -> str:
        """Why there is nothing to show yet."""
        if not self.samples:
            return "" if self.failing else "waiting for the first reading …"
        if not self.samples[-1].models:
            return "This server has no model loaded; load one, or start it with `atalaya up -f MODEL.yaml`."
        return ""

    def models(self) -> Sequence[ModelKey]:
        """The models of the last reading."""
        return sorted(self.samples[-1].models, key=str) if self.samples else ()

    def lately(self, key: ModelKey, seconds: float) -> Lately | None:
        """The last minute."""
        return metrics.lately(self.samples, key, seconds)

    def history(self, key: ModelKey, seconds: float, points: int) -> Sequence[tuple[float, Window]]:
        """The windows between readings."""
        since = self.samples[-1].at - seconds if self.samples else 0.0
        kept = [sample for sample in self.samples if sample.at >= since]
        return metrics.windows(kept, key, max(2 * INTERVAL_SECONDS, seconds / points))

    def whole(self, key: ModelKey) -> Whole | None:
        """All that was counted."""
        latest = self.samples[-1]
        return Whole(metrics.since_start(latest, key), latest.models[key].buckets)


class Collector:
    """The bounded history of every source. Thread-safe; `collect_once` is one round, `start` repeats it."""

    def __init__(
        self,
        targets: Callable[[], Sequence[Target]],
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`targets` is asked in each round: pods come and go. It must not wait."""
        self._targets = targets
        self._fetch = fetch or fetch_text
        self._clock = clock
        self._lock = threading.Lock()
        self._pooled: dict[str, Pooled] = {}
        self._asked: dict[str, list[Target]] = {}
        self._failing: dict[str, dict[str, str]] = {}
        self._since: dict[str, float] = {}
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
        targets, at = self._targets(), self._clock()
        asked: dict[str, list[Target]] = {}
        for target in targets:
            asked.setdefault(target.source, []).append(target)
        try:
            with ThreadPoolExecutor(_AT_A_TIME) as pool:
                asking = {target: pool.submit(self._read, target, at) for target in targets}
        except RuntimeError:  # an interpreter that is ending lends no more threads, and nobody will read this round
            return
        answers = {target: one.result() for target, one in asking.items()}
        with self._lock:
            self._asked = asked
            self._pooled = {name: self._pooled.get(name) or Pooled(_LENGTH) for name in asked}
            self._failing = {}
            for name, group in asked.items():
                self._keep(name, group, {target: answers[target] for target in group}, at)

    def _keep(self, name: str, group: Sequence[Target], answers: Mapping[Target, Sample | str], at: float) -> None:
        read = {target.url: answer for target, answer in answers.items() if isinstance(answer, Sample)}
        self._pooled[name].keep_only({target.url for target in group})
        self._pooled[name].add(at, read)
        failing = {target.pod or target.url: reason for target, reason in answers.items() if isinstance(reason, str)}
        if failing:
            self._failing[name] = failing
            self._since.setdefault(name, at)
        else:
            self._since.pop(name, None)

    def _read(self, target: Target, at: float) -> Sample | str:
        """What an address says now, or why it says nothing."""
        try:
            return read_as(target.served, self._fetch(target.url), at)
        except (OSError, HTTPException, MetricsUnreadable) as error:
            return reason_of(error)

    def sources(self) -> tuple[Source, ...]:
        """What is known now; before the first round, what will be asked."""
        with self._lock:
            if not self._asked:
                return tuple(Source(name, ()) for name in dict.fromkeys(one.source for one in self._targets()))
            return tuple(self._source(name, group) for name, group in self._asked.items())

    def _source(self, name: str, group: Sequence[Target]) -> Source:
        pods = len(group) if group[0].served else 0
        samples = tuple(self._pooled[name].samples)
        return Source(name, samples, self._failing.get(name, {}), self._since.get(name), pods)


_LENGTH = int(HISTORY_SECONDS / INTERVAL_SECONDS)


def read_as(served: Served | None, text: str, at: float) -> Sample:
    """A reading; of a model of the cluster, that model alone, asked or not. Raises MetricsUnreadable."""
    if served is None:
        return parse(text, at)
    engine = BY_ENGINE[served.engine]
    found = parse(text, at, engine)
    models = {
        ModelKey(key.name, key.version, served.namespace): sample
        for key, sample in found.models.items()
        if key.name == served.name
    }
    unasked = {ModelKey(served.name, "", served.namespace): ModelSample(server=engine.title)}
    return Sample(at, models or unasked, found.info)


def fetch_text(url: str) -> str:
    """GET an http(s) address. Raises OSError (which URLError is) when there is no good answer in time."""
    if not url.startswith(("http://", "https://")):
        raise MetricsUnreadable("the address is not http:// or https://; correct ATALAYA_METRICS_URLS.")
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme is checked above
        content: bytes = answer.read(_MAX_BYTES)
    return content.decode("utf-8", errors="replace")


def reason_of(error: Exception, waited_seconds: float = TIMEOUT_SECONDS) -> str:
    """In words, why an address gave nothing."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers HTTP {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {waited_seconds:g} seconds"
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there"
    return str(cause) or type(cause).__name__
