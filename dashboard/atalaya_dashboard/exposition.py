"""Reads what a model server says at its metrics address, whichever of the engines it is. Pure: text in, counts out.

The names come from `atalaya_spec.signals`. What a server does not tell stays None, so that nobody takes it for nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Told

from atalaya_dashboard.errors import MetricsUnreadable
from atalaya_dashboard.metrics import ModelKey, ModelSample, Sample
from atalaya_spec.signals import ALL, OK, Signals

_INFO = "atalaya_info"
_TOTAL = "_total"  # the parser adds it to every counter; our own server's names have it, the others' have not


def parse(text: str, at: float, engine: Signals | None = None) -> Sample:
    """Read an exposition, taken at `at` seconds since the epoch.

    Of an `engine` that is known it may be empty: some tell nothing before their first request. Raises MetricsUnreadable
    when it is no exposition, or of no engine.
    """
    gathered: dict[ModelKey, _Gathering] = {}
    info: Mapping[str, str] = {}
    found = engine
    try:
        for told in _samples(text):
            signals = next((one for one in ALL if told.name.startswith(one.prefix)), None)
            if signals is None:
                continue
            found = signals
            if told.name == _INFO:
                info = dict(told.labels)
            elif _is_of_a_version(told, signals) and (name := told.labels.get(signals.model_label)):
                key = ModelKey(name, told.labels.get(signals.version_label, ""))
                gathered.setdefault(key, _Gathering(signals)).add(told)
    except ValueError as error:
        raise MetricsUnreadable(f"the answer is not a Prometheus text: {error}; check the address.") from error
    if found is None:
        servers = ", ".join(one.title for one in ALL)
        raise MetricsUnreadable(
            f"the answer has no metric of a model server; name one of {servers}. "
            "The last tells nothing before its first request."
        )
    return Sample(at, {key: one.sample() for key, one in gathered.items()}, info)


def _samples(text: str) -> Iterator[Told]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def _is_of_a_version(told: Told, signals: Signals) -> bool:
    """OVMS counts probes of a model's readiness without a version."""
    return not signals.version_label or signals.version_label in told.labels


def _plain(name: str) -> str:
    return name.removesuffix(_TOTAL)


@dataclass
class _Gathering:
    """Sums the series of one model over protocols while an exposition is read."""

    signals: Signals
    buckets: dict[float, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)

    def add(self, told: Told) -> None:
        name, signals = _plain(told.name), self.signals
        if name == f"{signals.latency}_bucket" and "le" in told.labels:
            bound = float(told.labels["le"]) * signals.latency_unit_seconds
            self.buckets[bound] = self.buckets.get(bound, 0.0) + told.value
        elif code := self._code(name, told.labels):
            self.requests[code] = self.requests.get(code, 0.0) + told.value
        else:
            self.others[name] = self.others.get(name, 0.0) + told.value

    def _code(self, name: str, labels: Mapping[str, str]) -> str:
        """How the requests ended that this counts; empty when it counts none."""
        if any(labels.get(label) not in among for label, among in self.signals.only.items()):
            return ""
        for one in self.signals.requests:
            if name == _plain(one.name):
                return labels.get(one.code_label, OK) if one.code_label else one.code
        return ""

    def sample(self) -> ModelSample:
        signals = self.signals
        in_flight, queue = self._told(signals.in_flight), self._told(signals.queue)
        if queue is None and in_flight is not None and signals.capacity:
            queue = max(in_flight - self.others.get(signals.capacity, 0.0), 0.0)
        return ModelSample(
            server=signals.title,
            buckets=self.buckets,
            requests=self.requests,
            images=self._told(signals.images),
            queue_depth=queue,
            in_flight=in_flight,
            ready=self._told(signals.ready),
        )

    def _told(self, name: str) -> float | None:
        return self.others.get(_plain(name), 0.0) if name else None
