"""Prometheus' text format with the names that an original really gives.

prometheus_client ends every counter in `_total` and takes no name that begins with a colon before it is escaped; the
originals do the one and not the other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from atalaya_serving.stats import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Family:
    """One metric. A sample is its name's ending, its labels and its value."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    told: str = ""
    samples: list[tuple[str, Mapping[str, str], str]] = field(default_factory=list)

    def add(self, labels: Mapping[str, str], value: int) -> None:
        """A counter's or gauge's sample."""
        self.samples.append(("", labels, str(value)))

    def add_histogram(self, labels: Mapping[str, str], histogram: Histogram) -> None:
        """A histogram of seconds, told in microseconds."""
        bounds = [*(number(bound * 1e6) for bound in histogram.bounds), "+Inf"]
        total = 0
        for bound, count in zip(bounds, histogram.counts, strict=True):
            total += count
            self.samples.append(("_bucket", {**labels, "le": bound}, str(total)))
        self.samples.append(("_sum", labels, number(histogram.total_seconds * 1e6)))
        self.samples.append(("_count", labels, str(total)))


class Page:
    """What answers a scrape; the families are gathered anew for each."""

    content_type = CONTENT_TYPE

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def text(self) -> bytes:
        """All metrics now."""
        lines = [line for family in self._families() if family.samples for line in _lines(family)]
        return ("\n".join(lines) + "\n").encode()


def merged(histograms: Sequence[Histogram], bounds: Sequence[float]) -> Histogram:
    """One histogram of several with the same bounds."""
    whole = Histogram(bounds)
    for one in histograms:
        whole.counts = [a + b for a, b in zip(whole.counts, one.counts, strict=True)]
        whole.total_seconds += one.total_seconds
        whole.count += one.count
    return whole


def number(value: float) -> str:
    """Whole numbers whole, others with ten digits."""
    return str(round(value)) if abs(value - round(value)) < 1e-6 else f"{value:.10g}"


def _lines(family: Family) -> Iterable[str]:
    if family.told:
        yield f"# HELP {family.name} {family.told}"
    yield f"# TYPE {family.name} {family.kind}"
    for ending, labels, value in family.samples:
        told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        yield f"{family.name}{ending}{{{told}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
