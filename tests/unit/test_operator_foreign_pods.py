"""The accelerators that pods of others hold, followed by a watch that begins only when it is asked."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from atalaya_operator import foreign_pods
from atalaya_operator.accelerators import Holder
from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.foreign_pods import SELECTION, ForeignPods
from atalaya_operator.kinds import PODS
from builders_devices import Manifest, pod
from builders_following import SECONDS, Followed


class Watching:
    """One that is followed; `change` waits until the next change is told."""

    def __init__(self, cluster: Followed) -> None:
        self.cluster = cluster
        self._changes: queue.Queue[bool] = queue.Queue()
        self.pods = ForeignPods(cluster, lambda: self._changes.put(True))

    def says(self, kind: str, found: Manifest) -> None:
        self.cluster.said.put({"type": kind, "object": found})

    def change(self) -> dict[str, Holder]:
        self._changes.get(timeout=SECONDS)
        return {one.uid: one for one in self.pods.holders()}

    @property
    def told_of_no_more(self) -> bool:
        return self._changes.empty()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_pods, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def followed() -> Iterator[list[Watching]]:
    made: list[Watching] = []
    yield made
    for one in made:
        one.pods.stop()
        one.cluster.said.put(None)


def test_nothing_is_asked_until_somebody_asks() -> None:
    cluster = Followed()
    pods = ForeignPods(cluster, lambda: None)
    pods.start()
    pods.stop()
    assert cluster.listed == 0


def test_what_pods_hold_is_listed_and_followed(followed: list[Watching]) -> None:
    held, idle, waiting = pod("held", "a", xe=1), pod("idle", "a"), pod("waiting", xe=2)
    watching = Watching(Followed([[held], [idle, waiting]]))
    followed.append(watching)
    watching.pods.holders()
    there = watching.change()
    assert {uid: (one.node, dict(one.amounts)) for uid, one in there.items()} == {
        held["metadata"]["uid"]: ("a", {"gpu.intel.com/xe": 1}),
        waiting["metadata"]["uid"]: ("", {"gpu.intel.com/xe": 2}),
    }
    bound: Manifest = {**waiting, "spec": {**waiting["spec"], "nodeName": "b"}}
    watching.says("MODIFIED", bound)
    assert watching.change()[waiting["metadata"]["uid"]].node == "b"
    watching.says("DELETED", held)
    assert held["metadata"]["uid"] not in watching.change()
    watching.says("ADDED", held)
    assert held["metadata"]["uid"] in watching.change()
    assert watching.cluster.asked == {(PODS, tuple(SELECTION.items()))}


def test_what_changes_no_accelerator_is_told_to_nobody(followed: list[Watching]) -> None:
    held = pod("held", "a", xe=1)
    watching = Watching(Followed([[held]]))
    followed.append(watching)
    watching.pods.holders()
    watching.change()
    for found in (pod("idle", "a"), {**held, "status": {"phase": "Running", "message": "as before"}}):
        watching.says("MODIFIED", found)
    watching.says("BOOKMARK", {"metadata": {"resourceVersion": "777"}})
    watching.cluster.said.put(None)  # the API server ends the watch
    watching.says("DELETED", held)
    assert watching.change() == {}
    assert watching.told_of_no_more
    assert watching.cluster.versions == ["100", "777"]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"type": "ERROR", "object": {"code": 410}}, id="too-old"),
        pytest.param(TryAgain("the connection broke"), id="broken-off"),
    ],
)
def test_a_watch_that_cannot_go_on_begins_anew_with_a_list(followed: list[Watching], broken: Any) -> None:
    first, second = pod("first", "a", xe=1), pod("second", "a", xe=1)
    watching = Watching(Followed([[first]], [[second]]))
    followed.append(watching)
    watching.pods.holders()
    watching.change()
    watching.cluster.said.put(broken)
    assert set(watching.change()) == {second["metadata"]["uid"]}


def test_while_the_first_list_is_not_in_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_pods, "FIRST_LIST_SECONDS", 0.05)
    pods = ForeignPods(Followed(*[TryAgain("busy")] * 1000), lambda: None)
    with pytest.raises(TryAgain, match="not known yet"):
        pods.holders()
    pods.stop()


def test_a_refusal_is_passed_on_in_the_api_servers_words_and_ends_when_it_is_lifted(followed: list[Watching]) -> None:
    lifted = threading.Event()
    watching = Watching(Followed(ObjectRefused("pods is forbidden"), lifted, [[]]))
    followed.append(watching)
    with pytest.raises(ObjectRefused, match="forbidden"):
        watching.pods.holders()
    lifted.set()
    assert watching.change() == {}
