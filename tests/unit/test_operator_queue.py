"""The queue of models and the threads that work on it, and what is kept of what was seen."""

import threading
from typing import Any

import pytest

from atalaya_operator.errors import TryAgain
from atalaya_operator.kinds import OWNED, Kind
from atalaya_operator.observed import ModelKey, ObjectKey, Observed
from atalaya_operator.resync import forget_what_is_gone
from atalaya_operator.work_queue import WorkQueue
from atalaya_operator.workers import Workers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_that_is_added_often_is_worked_on_once() -> None:
    queue = WorkQueue[str](Clock())
    for _ in range(5):
        queue.add("a")
    queue.add("b")
    assert [queue.take(), queue.take()] == ["a", "b"]
    assert len(queue) == 0


def test_a_key_that_is_added_while_it_is_worked_on_comes_again_after_that() -> None:
    queue = WorkQueue[str](Clock())
    queue.add("a")
    queue.take()
    queue.add("a")
    queue.add("b")
    assert queue.take() == "b"
    queue.done("a")
    assert queue.take() == "a"


def test_the_earliest_of_several_times_counts() -> None:
    clock = Clock()
    queue = WorkQueue[str](clock)
    queue.add("a", 30)
    queue.add("b", 10)
    queue.add("a", 5)
    queue.add("a", 60)
    clock.now = 5
    assert queue.take() == "a"
    queue.done("a")
    clock.now = 100
    assert queue.take() == "b"
    assert len(queue) == 0


def test_a_closed_queue_lets_its_workers_go() -> None:
    queue = WorkQueue[str]()
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    queue.close()
    thread.join(60)
    assert taken == [None]


@pytest.mark.parametrize("error", [TryAgain("busy"), RuntimeError("a defect")])
def test_what_fails_is_tried_again_and_holds_up_nobody(error: Exception) -> None:
    queue, done = WorkQueue[ModelKey](), threading.Event()
    looked: list[str] = []

    def reconcile(key: ModelKey) -> float | None:
        looked.append(key.name)
        if key.name == "bad" and looked.count("bad") == 1:
            raise error
        if key.name == "bad":
            done.set()
        return None

    workers = Workers(queue, reconcile, 1)
    queue.add(ModelKey("n", "bad"))
    queue.add(ModelKey("n", "good"))
    workers.start()
    assert done.wait(60)
    workers.stop()
    assert looked == ["bad", "good", "bad"]


def service(version: int, uid: str = "u", **spec: Any) -> dict[str, Any]:
    labels = {"serving.atalaya.dev/model": "m"}
    metadata = {"name": "s", "namespace": "n", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"kind": "Service", "metadata": metadata, "spec": spec}


def known(observed: Observed) -> dict[str, Any] | None:
    model = {"kind": "InferenceModel",
             "metadata": {"name": "m", "namespace": "n", "uid": "m", "resourceVersion": "1"}}  # fmt: skip
    observed.put(model)
    seen = observed.seen(ModelKey("n", "m"))
    assert seen
    return seen.objects.get(ObjectKey("Service", "s"))


def test_an_event_that_comes_late_does_not_undo_what_is_known_already() -> None:
    observed = Observed()
    assert observed.put(service(12, a=2)) == ModelKey("n", "m")
    observed.put(service(9, a=1))
    assert known(observed) == service(12, a=2)


def test_an_object_that_was_made_anew_is_not_forgotten_with_the_old_one() -> None:
    observed = Observed()
    observed.put(service(12))
    observed.put(service(20, uid="new"))
    observed.drop(service(13))
    assert known(observed) == service(20, uid="new")
    observed.drop(service(21, uid="new"))
    assert known(observed) is None


class Listing:
    """A cluster in which these are, at a version."""

    def __init__(self, version: int, *uids: str) -> None:
        self.told = frozenset(uids), version

    def uids(self, kind: Kind) -> tuple[frozenset[str], int]:
        return self.told if kind.name == "Service" else (frozenset(), 0)


@pytest.mark.parametrize(
    ("listing", "is_forgotten"),
    [
        pytest.param(Listing(50), True, id="gone"),
        pytest.param(Listing(50, "u"), False, id="still-there"),
        pytest.param(Listing(11), False, id="made-since-the-list"),
    ],
)
def test_what_was_removed_unseen_is_found_out(listing: Listing, is_forgotten: bool) -> None:
    observed = Observed()
    observed.put(service(12))
    concerned = forget_what_is_gone(listing, observed, OWNED)
    assert concerned == ({ModelKey("n", "m")} if is_forgotten else set())
    assert (known(observed) is None) == is_forgotten
