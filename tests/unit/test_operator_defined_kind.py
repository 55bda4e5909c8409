"""A kind that a definition makes is followed whenever it is served, and what went with it is forgotten."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atalaya_operator import defined_kind
from atalaya_operator.defined_kind import DefinedKind
from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.kinds import DEFINED, MODELS, OWNED, Kind
from atalaya_operator.listeners import Listener
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.platform import Platform
from atalaya_operator.surroundings import Surroundings, concerns_us, definition_listener
from atalaya_operator.work_queue import WorkQueue
from builders_following import SECONDS, Followed, Manifest

MONITORS = next(kind for kind in OWNED if kind.name == "PodMonitor")
NOT_SERVED: list[list[Manifest]] = []
GONE = ObjectRefused("PodMonitor: the server could not find the requested resource")


def monitor(name: str, version: int = 1) -> Manifest:
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version),
                "labels": {"serving.atalaya.dev/model": "m"}}  # fmt: skip
    return {"apiVersion": MONITORS.api_version, "kind": "PodMonitor", "metadata": metadata}


def change(what: str, found: Manifest) -> Manifest:
    return {"type": what, "object": found}


class Following:
    """One that follows; `told` waits for the next object that is told of and answers the names that are known then."""

    def __init__(self, cluster: Followed, kind: Kind = MONITORS) -> None:
        self.cluster, self.observed = cluster, Observed()
        self._looks: queue.Queue[set[str]] = queue.Queue()
        listener = Listener(self.observed.put, self.observed.drop, lambda _: self._looks.put(self.known()))
        self.kind = DefinedKind(cluster, kind, listener, self.observed)
        self.kind.start()

    def known(self) -> set[str]:
        return {one["metadata"]["name"] for one in self.observed.of_kind("PodMonitor")}

    def told(self) -> set[str]:
        return self._looks.get(timeout=SECONDS)


Follow = Callable[..., Following]


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Follow]:
    monkeypatch.setattr(defined_kind, "_PAUSE_SECONDS", 0.01)
    made: list[Following] = []

    def begin(*lists: Any, kind: Kind = MONITORS) -> Following:
        made.append(Following(Followed(*lists), kind))
        return made[-1]

    yield begin
    for one in made:
        one.kind.stop()
        one.cluster.said.put(None)


def test_nothing_is_asked_before_the_definition_is_told_of(follow: Follow) -> None:
    following = follow([[monitor("a")]])
    following.kind.learn(is_served=False)
    assert following.cluster.listed == 0
    following.kind.learn(is_served=True)
    assert following.told() == {"a"}


def test_a_kind_that_is_served_only_a_moment_after_its_definitions_last_word_is_followed(follow: Follow) -> None:
    following = follow(NOT_SERVED, NOT_SERVED, [[]])
    following.kind.learn(is_served=True)
    following.cluster.said.put(change("ADDED", monitor("a", 301)))
    assert following.told() == {"a"}
    following.cluster.said.put(change("DELETED", monitor("a", 302)))
    assert following.told() == set()
    assert following.cluster.versions == ["300"]


def test_a_kind_that_goes_takes_what_was_known_with_it_and_is_followed_when_it_comes_again(follow: Follow) -> None:
    following = follow([[monitor("a")]], NOT_SERVED, [[monitor("b")]])
    following.kind.learn(is_served=True)
    assert following.told() == {"a"}
    following.kind.learn(is_served=False)
    following.cluster.said.put(GONE)
    assert following.told() == set()
    assert following.cluster.listed == 2
    following.kind.learn(is_served=True)
    assert following.told() == {"b"}


def test_what_was_written_since_a_list_is_not_forgotten_for_it(follow: Follow) -> None:
    release = threading.Event()
    following = follow(release, [[monitor("a")]])
    following.observed.put(monitor("written", 101))
    following.observed.put(monitor("gone", 99))
    following.kind.learn(is_served=True)
    release.set()
    assert following.told() == {"a", "written", "gone"}
    assert following.told() == {"a", "written"}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(change("ERROR", {"code": 410}), id="too-old"),
        pytest.param(TryAgain("the connection broke"), id="broken-off"),
    ],
)
def test_a_watch_that_cannot_go_on_begins_anew_with_a_list(follow: Follow, broken: Any) -> None:
    following = follow([[monitor("a")]], TryAgain("busy"), [[monitor("b")]])
    following.kind.learn(is_served=True)
    assert following.told() == {"a"}
    following.cluster.said.put(broken)
    assert following.told() == {"a", "b"}
    assert following.told() == {"b"}


@pytest.mark.parametrize(
    ("kind", "selection"),
    [
        pytest.param(MODELS, (), id="all-models"),
        pytest.param(MONITORS, (("labelSelector", "serving.atalaya.dev/model"),), id="what-has-our-label"),
    ],
)
def test_all_models_are_followed_and_of_others_objects_none(
    follow: Follow, kind: Kind, selection: tuple[tuple[str, str], ...]
) -> None:
    following = follow([[monitor("a")]], kind=kind)
    following.kind.learn(is_served=True)
    following.told()
    assert following.cluster.asked >= {(kind, selection)}


# --- what definitions say ---------------------------------------------------------------------------------------------


def definition(kind: Kind, established: str = "True", **version: Any) -> Manifest:
    spec = {"group": kind.group, "names": {"kind": kind.name},
            "versions": [{"name": kind.version, "served": True, **version}]}  # fmt: skip
    return {"spec": spec, "status": {"conditions": [{"type": "Established", "status": established}]}}


class Learns:
    """Whoever follows a kind, and what was told to it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.told: list[bool] = []

    def learn(self, *, is_served: bool) -> None:
        self.told.append(is_served)


def test_a_definition_tells_whoever_follows_its_kind_and_has_every_model_looked_at() -> None:
    observed, work = Observed(), WorkQueue[ModelKey]()
    observed.put({"kind": "InferenceModel", "metadata": {"name": "m", "namespace": "n", "uid": "m",
                                                         "resourceVersion": "1"}})  # fmt: skip
    surroundings, followers = Surroundings(Platform()), [Learns(kind) for kind in DEFINED]
    listener = definition_listener(observed, work, surroundings, followers)
    for found in (definition(MONITORS, "False"), definition(MONITORS), definition(MONITORS, served=False)):
        listener.keep(found)
        listener.look(found)
    listener.keep(definition(MONITORS))
    assert surroundings.platform.offers == {"PodMonitor"}
    listener.forget(definition(MONITORS))
    listener.look(definition(MONITORS))
    assert {one.kind.name: one.told for one in followers} == {
        "InferenceModel": [], "ScaledObject": [], "PodMonitor": [False, True, False, False]
    }  # fmt: skip
    assert work.take() == ModelKey("n", "m")
    assert surroundings.platform.offers == frozenset()


def test_the_models_own_definition_is_no_kind_that_a_model_may_make_use_of() -> None:
    surroundings = Surroundings(Platform())
    surroundings.learn(definition(MODELS), is_there=True)
    assert (surroundings.served, surroundings.platform.offers) == ({"InferenceModel"}, frozenset())


@pytest.mark.parametrize(
    ("found", "concerns"),
    [
        *(pytest.param(definition(kind), True, id=kind.name) for kind in DEFINED),
        pytest.param(definition(Kind("example.org/v1", "PodMonitor", "podmonitors")), False, id="of-another-group"),
        pytest.param(definition(Kind("monitoring.coreos.com/v1", "Probe", "probes")), False, id="of-the-same-group"),
    ],
)
def test_only_definitions_of_kinds_that_we_make_or_look_at_concern_us(found: Manifest, concerns: bool) -> None:
    assert concerns_us(found) is concerns
