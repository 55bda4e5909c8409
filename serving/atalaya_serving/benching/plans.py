"""What is measured in which order: every combination, interleaved by rounds, bounded in time. Pure.

A shared machine has slow phases. So all cells are measured once a round, each round begins elsewhere, and what is
compared was measured side by side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from atalaya_serving.benching.errors import InvalidPlan
from atalaya_serving.benching.records import Cell, Protocol

MOST_HOURS = 12


@dataclass(frozen=True)
class LoadPlan:
    """How much load, and for how long. A measurement ends after `seconds` or `requests`, whichever comes first."""

    concurrency: tuple[int, ...] = (1, 8)
    batches: tuple[int, ...] = (1, 16)
    rates: tuple[float | None, ...] = (None,)
    rounds: int = 3
    seconds: float = 3.0
    requests: int | None = None
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, values in (("--concurrency", self.concurrency), ("--batch", self.batches), ("--rate", self.rates)):
            if not values:
                raise InvalidPlan(f"{name} names nothing to measure; give at least one value.")
            if twice := sorted({str(value) for value in values if values.count(value) > 1}):
                raise InvalidPlan(f"{name} names {twice[0]} twice; give each value once.")


def cells(plan: LoadPlan, servers: Mapping[str, Sequence[Protocol]]) -> list[Cell]:
    """Every combination, by the protocols that each server speaks."""
    return [
        Cell(server, protocol, batch, concurrency, rate)
        for batch in plan.batches
        for rate in plan.rates
        for concurrency in plan.concurrency
        for server, protocols in servers.items()
        for protocol in protocols
    ]


def interleaved(every: Sequence[Cell], rounds: int) -> Iterator[tuple[int, Cell]]:
    """All cells in each round; a round starts where the one before it did, moved on by a share of the cells."""
    step = max(1, len(every) // max(1, rounds))
    for number in range(rounds):
        start = number * step % len(every)
        for cell in (*every[start:], *every[:start]):
            yield number, cell


def at_most_seconds(plan: LoadPlan, count: int) -> float:
    """How long `count` cells take at most, but for calls that hang. Raises InvalidPlan past MOST_HOURS."""
    total = count * plan.rounds * plan.seconds
    if total > MOST_HOURS * 3600:
        raise InvalidPlan(
            f"{count} combinations in {plan.rounds} rounds of {plan.seconds:g} s take {total / 3600:.0f} h, past"
            f" {MOST_HOURS} h; measure fewer at a time."
        )
    return total
