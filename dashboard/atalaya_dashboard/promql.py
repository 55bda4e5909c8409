"""What a Prometheus is asked about each engine, and what its answer means. Pure.

One query an engine: every signal is a branch of it, told apart by a label that the query adds, so that a page costs one
request an engine and not twenty.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from atalaya_dashboard.metrics import ModelKey, Window
from atalaya_spec.signals import OK, Signals

WINDOW_SECONDS = 120
"""Two readings must fall into it, and a Prometheus reads every 15 to 60 seconds."""
_RANGE = f"[{WINDOW_SECONDS}s]"
_SIGNAL, _CODE = "atalaya_signal", "atalaya_code"
_QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_REQUESTS, _IMAGES, _QUEUE, _IN_FLIGHT, _READY = "requests", "images", "queue", "in flight", "ready"

Told = Mapping[float, Mapping[ModelKey, Window]]


def query(signals: Signals) -> str:
    """All that is shown of an engine's models, over all their pods."""
    return " or ".join(
        f'label_replace({expression}, "{_SIGNAL}", "{name}", "", "")' for name, expression in _branches(signals)
    )


def _branches(signals: Signals) -> Iterator[tuple[str, str]]:
    by = ", ".join(label for label in ("namespace", signals.model_label, signals.version_label) if label)
    chosen = f'{{{signals.model_label}!=""}}'
    for name, share in _QUANTILES.items():
        rate = f"sum by (le, {by}) (rate({signals.latency}_bucket{chosen}{_RANGE}))"
        yield name, f"histogram_quantile({share}, {rate}) * {signals.latency_unit_seconds:.7g}"
    yield from ((_REQUESTS, expression) for expression in _requests(signals, by))
    if signals.images:
        yield _IMAGES, f"sum by ({by}) (rate({signals.images}{chosen}{_RANGE}))"
    if signals.in_flight:
        yield _IN_FLIGHT, f"sum by ({by}) ({signals.in_flight}{chosen})"
    if signals.queue:
        yield _QUEUE, f"sum by ({by}) ({signals.queue}{chosen})"
    elif signals.capacity:
        waiting = f"clamp_min({signals.in_flight}{chosen} - {signals.capacity}{chosen}, 0)"
        yield _QUEUE, f"sum by ({by}) ({waiting})"
    if signals.ready:
        yield _READY, f"sum by ({by}) ({signals.ready}{chosen})"


def _requests(signals: Signals, by: str) -> Iterator[str]:
    only = [f'{label}=~"{"|".join(among)}"' for label, among in signals.only.items()]
    chosen = "{" + ",".join([f'{signals.model_label}!=""', *only]) + "}"
    for one in signals.requests:
        if one.code_label:
            yield (
                f"label_replace(sum by ({by}, {one.code_label}) (rate({one.name}{chosen}{_RANGE})), "
                f'"{_CODE}", "$1", "{one.code_label}", "(.*)")'
            )
        else:
            yield f'label_replace(sum by ({by}) (rate({one.name}{chosen}{_RANGE})), "{_CODE}", "{one.code}", "", "")'


def told(result: list[Any], signals: Signals) -> Told:
    """The windows of each moment of an answer. Raises ValueError, KeyError or TypeError when it is none of ours."""
    gathered: dict[float, dict[ModelKey, _Moment]] = {}
    for series in result:
        labels = series["metric"]
        key = ModelKey(labels[signals.model_label], labels.get(signals.version_label, ""), labels.get("namespace", ""))
        for at, value in series.get("values") or [series["value"]]:
            moment = gathered.setdefault(float(at), {}).setdefault(key, _Moment())
            moment.add(labels[_SIGNAL], labels.get(_CODE, OK), float(value))
    return {at: {key: one.window(signals) for key, one in models.items()} for at, models in gathered.items()}


class _Moment:
    """The signals of one model at one time."""

    def __init__(self) -> None:
        self._signals: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def add(self, signal: str, code: str, value: float) -> None:
        if signal == _REQUESTS:
            self._rates[code] = self._rates.get(code, 0.0) + value
        else:
            self._signals[signal] = value

    def window(self, signals: Signals) -> Window:
        found, requests = self._signals, sum(self._rates.values())
        return Window(
            seconds=WINDOW_SECONDS,
            requests=requests * WINDOW_SECONDS,
            errors={code: rate * WINDOW_SECONDS for code, rate in self._rates.items() if code != OK and rate > 0},
            requests_per_second=requests,
            images_per_second=found.get(_IMAGES, 0.0) if signals.images else None,
            p50=found.get("p50", math.nan),
            p95=found.get("p95", math.nan),
            p99=found.get("p99", math.nan),
            queue_depth=found.get(_QUEUE, 0.0) if signals.queue or signals.capacity else None,
            in_flight=found.get(_IN_FLIGHT, 0.0) if signals.in_flight else None,
            ready=found.get(_READY, 1.0) > 0,
            server=signals.title,
        )
