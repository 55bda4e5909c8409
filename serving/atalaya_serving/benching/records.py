"""What a benchmark keeps: what was measured, on what, and how quiet it was. Pure, and JSON by `dataclasses.asdict`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atalaya_serving.benching.quantiles import Latency

Protocol = Literal["v2-grpc", "v2-rest", "tfs-grpc", "tfs-rest"]
PROTOCOLS: tuple[Protocol, ...] = ("v2-grpc", "v2-rest", "tfs-grpc", "tfs-rest")
NOISY_SHARE = 0.05
"""From this share of the processors' time on, stolen by the host or taken by other programs, a result is marked."""


def cores_of(count: int) -> str:
    """So many cores, in words."""
    return f"{count} core" if count == 1 else f"{count} cores"


@dataclass(frozen=True)
class Noise:
    """What else the machine did. Shares are of all cores' time; `others` is None where a part of it is unknown."""

    steal: float
    others: float | None
    load_1m: float

    @property
    def marks(self) -> tuple[str, ...]:
        """Why the figure is not to be trusted; empty where it is."""
        told = []
        if self.steal >= NOISY_SHARE:
            told.append(f"steal {self.steal:.0%}")
        if self.others is not None and self.others >= NOISY_SHARE:
            told.append(f"others {self.others:.0%}")
        return tuple(told)


@dataclass(frozen=True)
class Cell:
    """One thing to measure. `rate` None is a closed loop: each caller asks again when it is answered."""

    server: str
    protocol: Protocol
    batch: int
    concurrency: int
    rate: float | None = None


@dataclass(frozen=True)
class Sample:
    """A cell in one round. CPU and memory are of the server's processes, None where they are not on this machine."""

    cell: Cell
    round: int
    wall_seconds: float
    requests: int
    errors: Mapping[str, int]
    unsent: int
    latency: Latency
    server_cpu_seconds: float | None
    client_cpu_seconds: float
    memory_mib: float | None
    noise: Noise

    @property
    def images_per_second(self) -> float:
        """Answered rows of batches."""
        return self.requests * self.cell.batch / self.wall_seconds


@dataclass(frozen=True)
class Start:
    """How a server that we started came up: to the first answer, and what it then held in memory."""

    server: str
    first_answer_seconds: float
    memory_mib: float
    precision: str
    """What the engine really computes in."""


@dataclass(frozen=True)
class Audit:
    """Calls and images that we sent and had answered, warm-up included, beside what the server's /metrics counted."""

    server: str
    sent_requests: int
    sent_images: int
    counted_requests: int
    counted_images: int

    @property
    def agrees(self) -> bool:
        """Whether both counted the same."""
        return (self.sent_requests, self.sent_images) == (self.counted_requests, self.counted_images)


@dataclass(frozen=True)
class Row:
    """A cell over all rounds: medians of the rounds, and quantiles over every latency of all rounds."""

    cell: Cell
    rounds: int
    images_per_second: float
    images_per_second_range: tuple[float, float]
    latency: Latency
    server_cpu_us_per_image: float | None
    memory_mib: float | None
    errors: int
    unsent: int
    noise: Noise
    marks: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Report:
    """All of one load benchmark. `complete` is False when it was stopped before its end."""

    about: Mapping[str, Any]
    plan: Mapping[str, Any]
    rows: tuple[Row, ...]
    samples: tuple[Sample, ...]
    starts: tuple[Start, ...] = ()
    audits: tuple[Audit, ...] = ()
    complete: bool = True
