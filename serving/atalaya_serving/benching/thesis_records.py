"""What `atalaya bench thesis` keeps, and the sums that its tables show. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atalaya_serving.benching.machine import worst
from atalaya_serving.benching.quantiles import Latency
from atalaya_serving.benching.records import Noise, Protocol


@dataclass(frozen=True)
class Fit:
    """One fit of the thesis' network, judged on tiles that it did not see."""

    epochs: int
    seed: int
    learnt: int
    judged: int
    right: int
    loss: float
    seconds: float
    noise: Noise

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.judged


@dataclass(frozen=True)
class Served:
    """One model by one engine on so many cores over one protocol, in one round: an image a request.

    `inference_*` is what the server's own clock says of the time in the engine; `unseen` are answers to tiles that the
    model did not learn from.
    """

    model: str
    engine: str
    cores: int
    protocol: Protocol
    round: int
    right: int
    wrong: int
    unseen: int
    unseen_right: int
    errors: int
    inference_seconds: float
    inference_count: int
    total: Latency
    wall_seconds: float
    noise: Noise

    @property
    def answered(self) -> int:
        """Images with an answer."""
        return self.right + self.wrong


@dataclass(frozen=True)
class Path:
    """One way to call an engine in this process, one image at a time, by one caller."""

    path: str
    engine: str
    latency: Latency
    noise: Noise


@dataclass(frozen=True)
class Sums:
    """Several `Served` together: means over images, speed over the time that was measured."""

    right: int
    wrong: int
    unseen: int
    unseen_right: int
    errors: int
    inference_ms: float | None
    total_ms: float | None
    images_per_second: float | None
    noise: Noise | None


@dataclass(frozen=True)
class ThesisReport:
    """All of one run. `complete` is False when it was stopped before its end."""

    about: Mapping[str, Any]
    plan: Mapping[str, Any]
    fits: tuple[Fit, ...]
    served: tuple[Served, ...]
    paths: tuple[Path, ...]
    recorded: tuple[Mapping[str, Any], ...] = ()
    complete: bool = True


def sums(every: Iterable[Served]) -> Sums:
    """Add up."""
    own = list(every)
    answered = sum(one.answered for one in own)
    counted = sum(one.inference_count for one in own)
    wall = sum(one.wall_seconds for one in own)
    total = sum((one.total.mean_ms or 0.0) * one.total.count for one in own)
    calls = sum(one.total.count for one in own)
    return Sums(
        right=sum(one.right for one in own),
        wrong=sum(one.wrong for one in own),
        unseen=sum(one.unseen for one in own),
        unseen_right=sum(one.unseen_right for one in own),
        errors=sum(one.errors for one in own),
        inference_ms=1000 * sum(one.inference_seconds for one in own) / counted if counted else None,
        total_ms=total / calls if calls else None,
        images_per_second=answered / wall if wall else None,
        noise=worst(one.noise for one in own) if own else None,
    )


def group(served: Sequence[Served], *by: str) -> dict[tuple[Any, ...], Sums]:
    """Sums by fields of Served, in the order of appearance."""
    found: dict[tuple[Any, ...], list[Served]] = {}
    for one in served:
        found.setdefault(tuple(getattr(one, field) for field in by), []).append(one)
    return {key: sums(own) for key, own in found.items()}
