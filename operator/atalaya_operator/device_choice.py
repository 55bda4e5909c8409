"""Which of a model's devices it is to run on, how long to leave it there, and why. Pure.

The first that can hold the fewest replicas is taken for all of them. A choice stays: what runs is moved only when too
few of its pods find a place for a while, or, where the spec asks for it, up again after a while. A new revision for
which its predecessor left no room goes where there is some, and back when the predecessor is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

ROUNDS_APART = 5
"""When no device gave the pods a place in time, the round begins again after so many times that time."""


@dataclass(frozen=True)
class Option:
    """One device of the spec. `room` is None where there is no bound, and `lack` empty where it holds what is needed.

    `total` is what there would be if nobody else held any, `frees` whether the model's own revision before, once it is
    gone, leaves what is needed.
    """

    device: str
    room: int | None = None
    total: int = 0
    lack: str = ""
    frees: bool = False


@dataclass(frozen=True)
class Standing:
    """What was made of the very spec: when, why there, and for how long too few of its pods have a place."""

    device: str
    age: float
    short_for: float | None = None
    tried: tuple[str, ...] = ()
    """The devices that gave them no place in time, one after the other, before this one."""
    reason: str = ""
    returns_to: str = ""


@dataclass(frozen=True)
class Patience:
    """Seconds that a device has to give the pods a place, and that a model stays before it moves up; None: for ever."""

    fall_back_after: float
    move_up_after: float | None = None


@dataclass(frozen=True)
class Choice:
    """A device for all replicas."""

    device: str
    reason: str = ""
    """Why none of those that are named before it."""
    tried: tuple[str, ...] = ()
    lack: str = ""
    """What its pods wait for."""
    most: int | None = None
    """The most replicas that it can hold."""
    again: float | None = None
    """Seconds after which to choose again even if nothing is told."""
    is_open: bool = False
    """Whether another supply could lead to another choice."""
    returns_to: str = ""
    """The better device that the revision before held: it goes there as soon as that one has left it."""
    never_fits: bool = False
    """Whether its pods wait for what the very revision holds that they are to replace."""


def settled(standing: Standing | None, first: str, patience: Patience) -> Choice | None:
    """The choice that stays whatever else there is; None where that has to be looked at."""
    if standing is None or standing.short_for is not None or standing.returns_to:
        return None
    if patience.move_up_after is not None and standing.device != first:
        return None
    return Choice(standing.device, standing.reason, standing.tried)


def choose(options: Sequence[Option], need: int, standing: Standing | None, patience: Patience) -> Choice:
    """`options` in order of preference; `standing` is None for what was not made yet."""
    if standing is None:
        chosen = _first_fitting(options) or _worth_waiting_for(options, need)
        left = next((one.device for one in _before(options, chosen) if one.frees), "")
        return replace(_choice(chosen, need, _because(options, chosen.device)), returns_to=left)
    here = next(one for one in options if one.device == standing.device)
    if standing.short_for is not None:
        return _when_short(options, here, need, standing, patience)
    return _when_placed(options, here, need, standing, patience)


def _when_short(options: Sequence[Option], here: Option, need: int, standing: Standing, patience: Patience) -> Choice:
    assert standing.short_for is not None
    others = [one for one in options if one is not here]
    fresh = [one for one in others if one.device not in standing.tried]
    for candidates, tried, after in (
        (fresh, (*standing.tried, here.device), patience.fall_back_after),
        (others, (here.device,), patience.fall_back_after * ROUNDS_APART),
    ):
        if chosen := _first_fitting(candidates):
            if standing.short_for >= after:
                late = f"{here.device} gave too few pods a place within {_span(after)}"
                because = _because(options, chosen.device, {here.device: late})
                return _choice(chosen, need, because, tried)
            return _stay(here, need, standing, after - standing.short_for, is_open=True)
    return _stay(here, need, standing, None, is_open=True)


def _when_placed(options: Sequence[Option], here: Option, need: int, standing: Standing, patience: Patience) -> Choice:
    before = _before(options, here)
    for one in before:
        if one.device == standing.returns_to and not one.lack:
            return _choice(one, need, _because(options, one.device))
    if patience.move_up_after is None or not before:
        return _stay(here, need, standing, None, is_open=bool(standing.returns_to))
    better = _first_fitting(before)
    if better is None:
        return _stay(here, need, standing, None, is_open=True)
    if standing.age < patience.move_up_after:
        return _stay(here, need, standing, patience.move_up_after - standing.age, is_open=True)
    return _choice(better, need, _because(options, better.device))


def _first_fitting(options: Sequence[Option]) -> Option | None:
    return next((one for one in options if not one.lack), None)


def _before(options: Sequence[Option], chosen: Option) -> Sequence[Option]:
    return options[: options.index(chosen)]


def _worth_waiting_for(options: Sequence[Option], need: int) -> Option:
    """The first that would do if it were free; where none would, the first of all."""
    return next((one for one in options if one.total >= need), options[0])


def _choice(chosen: Option, need: int, reason: str, tried: tuple[str, ...] = ()) -> Choice:
    # It is looked at again soon, with what was made of it.
    return Choice(chosen.device, reason, tried, chosen.lack, _most(chosen, need), is_open=True)


def _stay(here: Option, need: int, standing: Standing, again: float | None, *, is_open: bool) -> Choice:
    lack = here.lack if standing.short_for is not None else ""
    most, returns_to = _most(here, need), standing.returns_to
    return Choice(here.device, standing.reason, standing.tried, lack, most, again, is_open, returns_to)


def _most(option: Option, need: int) -> int | None:
    """Never fewer than are needed: those that find no place are to be seen waiting."""
    return None if option.room is None else max(option.room, need)


def _because(options: Sequence[Option], chosen: str, known: dict[str, str] | None = None) -> str:
    told = []
    for one in options:
        if one.device == chosen:
            break
        told.append((known or {}).get(one.device) or one.lack or f"{one.device} was tried before")
    return "; ".join(told)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 60 and whole % 60 == 0:
        return f"{whole // 60} min"
    return f"{seconds:g} s"
