"""Which device is chosen, when it is left and when it is gone back to: a table of situations."""

import pytest

from atalaya_operator.device_choice import ROUNDS_APART, Choice, Option, Patience, Standing, choose, settled

XE, I915, CPU = "xe", "i915", "cpu"
PATIENT = Patience(fall_back_after=120)
CLIMBING = Patience(fall_back_after=120, move_up_after=600)
ON_CORES = Option(CPU)


def free(device: str, room: int = 1) -> Option:
    return Option(device, room, room)


def full(device: str, total: int = 1) -> Option:
    return Option(device, 0, total, f"{device} is full")


def absent(device: str) -> Option:
    return Option(device, 0, 0, f"no {device}")


def made(device: str, age: float = 1000.0, short_for: float | None = None, *tried: str) -> Standing:
    return Standing(device, age, short_for, tried, f"why {device}")


@pytest.mark.parametrize(
    ("options", "chosen", "reason", "lack"),
    [
        pytest.param([ON_CORES], CPU, "", "", id="only-cores"),
        pytest.param([free(XE), ON_CORES], XE, "", "", id="first-is-free"),
        pytest.param([full(XE), free(I915), ON_CORES], I915, "xe is full", "", id="second"),
        pytest.param([absent(XE), full(I915), ON_CORES], CPU, "no xe; i915 is full", "", id="cores-at-last"),
        pytest.param([ON_CORES, free(XE)], CPU, "", "", id="cores-before-an-accelerator"),
        pytest.param([full(XE), full(I915)], XE, "", "xe is full", id="nothing-free-waits-for-the-first"),
        pytest.param(
            [absent(XE), full(I915)], I915, "no xe", "i915 is full", id="nothing-free-waits-for-what-is-there"
        ),
        pytest.param([absent(XE), absent(I915)], XE, "", "no xe", id="nothing-anywhere"),
        pytest.param([absent(XE)], XE, "", "no xe", id="one-device"),
    ],
)
def test_what_was_not_made_yet_gets_the_first_that_can_hold_it(
    options: list[Option], chosen: str, reason: str, lack: str
) -> None:
    choice = choose(options, 1, None, PATIENT)
    assert (choice.device, choice.reason, choice.lack, choice.tried) == (chosen, reason, lack, ())


@pytest.mark.parametrize("patience", [pytest.param(PATIENT, id="stays"), pytest.param(CLIMBING, id="moves-up")])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([full(XE), ON_CORES], id="still-full"),
        pytest.param([absent(XE), ON_CORES], id="gone"),
    ],
)
def test_what_runs_stays_while_nothing_better_is_free(options: list[Option], patience: Patience) -> None:
    choice = choose(options, 1, made(CPU), patience)
    assert (choice.device, choice.reason, choice.again) == (CPU, "why cpu", None)
    assert choice.is_open is (patience is CLIMBING)


def test_what_runs_on_its_first_device_asks_for_nothing_more() -> None:
    assert choose([free(XE), ON_CORES], 1, made(XE), CLIMBING) == Choice(XE, "why xe", most=1)


def test_what_runs_is_not_moved_up_unless_it_is_asked_for() -> None:
    choice = choose([free(XE), ON_CORES], 1, made(CPU, 10**6), PATIENT)
    assert (choice.device, choice.again, choice.is_open) == (CPU, None, False)


@pytest.mark.parametrize(
    ("options", "on", "age", "device", "again"),
    [
        pytest.param([free(XE), ON_CORES], CPU, 599, CPU, 1, id="still-cooling-down"),
        pytest.param([free(XE), ON_CORES], CPU, 600, XE, None, id="cooled-down"),
        pytest.param([full(XE), free(I915), ON_CORES], CPU, 600, I915, None, id="up-by-one"),
        pytest.param([full(XE), free(I915), ON_CORES], I915, 600, I915, None, id="nothing-better"),
        pytest.param([full(XE), full(I915), ON_CORES], CPU, 600, CPU, None, id="nothing-free"),
    ],
)
def test_moving_up_waits_for_its_cool_down(
    options: list[Option], on: str, age: float, device: str, again: float | None
) -> None:
    choice = choose(options, 1, made(on, age), CLIMBING)
    assert (choice.device, choice.again, choice.is_open) == (device, again, True)


@pytest.mark.parametrize(
    ("options", "standing", "device", "tried", "again"),
    [
        pytest.param([free(XE), ON_CORES], made(XE, 119, 119), XE, (), 1, id="in-time-yet"),
        pytest.param([free(XE), ON_CORES], made(XE, 120, 120), CPU, (XE,), None, id="not-in-time"),
        pytest.param([full(XE), ON_CORES], made(XE, 9999, 119), XE, (), 1, id="lost-a-while-ago"),
        pytest.param([full(XE), full(I915), ON_CORES], made(XE, 120, 120), CPU, (XE,), None, id="over-what-is-full"),
        pytest.param([full(XE), full(I915)], made(XE, 999, 999), XE, (), None, id="nowhere-to-go"),
        pytest.param([full(XE)], made(XE, 999, 999), XE, (), None, id="one-device"),
        pytest.param([free(XE), free(I915), ON_CORES], made(I915, 120, 120, XE), CPU, (XE, I915), None,
                     id="not-back-to-what-was-tried"),
        pytest.param([free(XE), free(I915), ON_CORES], made(I915, 9999, 120), XE, (I915,), None,
                     id="up-to-what-has-come-free"),
        pytest.param([free(XE), ON_CORES], made(CPU, 120, 120, XE), CPU, (XE,), 120 * (ROUNDS_APART - 1),
                     id="all-tried-waits-longer"),
        pytest.param([free(XE), ON_CORES], made(CPU, 600, 120 * ROUNDS_APART, XE), XE, (CPU,), None,
                     id="another-round"),
    ],
)  # fmt: skip
def test_what_finds_no_place_in_time_falls_back(
    options: list[Option], standing: Standing, device: str, tried: tuple[str, ...], again: float | None
) -> None:
    choice = choose(options, 1, standing, PATIENT)
    assert (choice.device, choice.tried, choice.again) == (device, tried, again)
    assert choice.is_open


def test_a_fall_back_says_which_device_gave_no_place_and_for_how_long() -> None:
    choice = choose([free(XE), full(I915), ON_CORES], 1, made(XE, 120, 120), PATIENT)
    assert choice.reason == "xe gave too few pods a place within 2 min; i915 is full"
    short = choose([free(XE), ON_CORES], 1, made(XE, 9, 3), Patience(2.5))
    assert short.reason == "xe gave too few pods a place within 2.5 s"


def test_the_reason_and_what_was_tried_are_kept_while_it_stays() -> None:
    choice = choose([full(XE), ON_CORES], 1, made(CPU, 5, None, XE), PATIENT)
    assert (choice.reason, choice.tried) == ("why cpu", (XE,))


def test_moving_up_begins_a_new_round() -> None:
    assert choose([free(XE), ON_CORES], 1, made(CPU, 600, None, XE), CLIMBING).tried == ()


def test_pods_that_are_short_are_told_what_they_wait_for() -> None:
    assert choose([full(XE), ON_CORES], 1, made(XE, 5, 5), PATIENT).lack == "xe is full"
    assert choose([full(XE), ON_CORES], 1, made(XE, 5), PATIENT).lack == ""


def test_a_revision_that_its_predecessor_leaves_no_room_for_comes_back_when_that_one_is_gone() -> None:
    held = Option(XE, 0, 1, "xe is held", frees=True)
    stone = choose([held, ON_CORES], 1, None, PATIENT)
    assert (stone.device, stone.returns_to, stone.is_open) == (CPU, XE, True)
    standing = Standing(CPU, 1, None, (), stone.reason, stone.returns_to)
    waiting = choose([held, ON_CORES], 1, standing, PATIENT)
    assert (waiting.device, waiting.returns_to, waiting.is_open) == (CPU, XE, True)
    back = choose([free(XE), ON_CORES], 1, standing, PATIENT)
    assert (back.device, back.returns_to) == (XE, "")


def test_a_revision_that_goes_down_for_another_cause_has_nothing_to_come_back_to() -> None:
    assert choose([full(XE), ON_CORES], 1, None, PATIENT).returns_to == ""


@pytest.mark.parametrize(
    ("option", "need", "most"),
    [
        pytest.param(free(XE, 3), 1, 3, id="what-there-is"),
        pytest.param(full(XE, 3), 2, 2, id="never-fewer-than-asked-for"),
        pytest.param(ON_CORES, 1, None, id="cores-have-no-bound"),
    ],
)
def test_scaling_is_bounded_by_what_there_is(option: Option, need: int, most: int | None) -> None:
    assert choose([option], need, None, PATIENT).most == most
    assert choose([option], need, made(option.device), PATIENT).most == most


@pytest.mark.parametrize("climb", [pytest.param(None, id="stays"), pytest.param(600.0, id="moves-up")])
def test_no_situation_moves_a_model_more_often_than_its_patience_allows(climb: float | None) -> None:
    """Two devices that are always free and never give a place: the worst there is, over a day."""
    options, patience = [free(XE), free(I915)], Patience(120, climb)
    choice, since, moves = choose(options, 1, None, patience), 0.0, 0
    for now in range(0, 86_400, 10):
        standing = Standing(choice.device, now - since, now - since, choice.tried, choice.reason)
        following = choose(options, 1, standing, patience)
        if following.device != choice.device:
            moves, since = moves + 1, float(now)
        choice = following
    assert 86_400 / (120 * ROUNDS_APART) - 2 <= moves <= 86_400 / (120 * ROUNDS_APART / 1.5)


@pytest.mark.parametrize(
    ("standing", "patience", "stays"),
    [
        pytest.param(None, PATIENT, False, id="not-made-yet"),
        pytest.param(made(XE), CLIMBING, True, id="on-the-first"),
        pytest.param(made(CPU), PATIENT, True, id="does-not-move-up"),
        pytest.param(made(CPU), CLIMBING, False, id="moves-up"),
        pytest.param(made(XE, 5, 5), PATIENT, False, id="short"),
        pytest.param(Standing(CPU, 5, returns_to=XE), PATIENT, False, id="is-to-return"),
    ],
)
def test_what_is_settled_is_what_would_be_chosen_whatever_there_is(
    standing: Standing | None, patience: Patience, stays: bool
) -> None:
    found = settled(standing, XE, patience)
    assert (found is not None) == stays
    for first in (free(XE), full(XE), absent(XE)) if found else ():
        chosen = choose([first, ON_CORES], 1, standing, patience)
        assert found
        assert (found.device, found.reason, found.tried) == (chosen.device, chosen.reason, chosen.tried)
