"""What is read from a Deployment, its pods and the nodes: since when too few have a place, which was chosen last."""

from typing import Any

import pytest

from atalaya_operator.device_standing import newest, short_since, standing
from builders_devices import EARLY, Manifest, node, pod

NODES = {one["metadata"]["name"]: one for one in (node("a", xe=9), node("lost", xe=9, ready=False))}
LATER, LATEST = "2026-01-01T00:05:00Z", "2026-01-01T00:09:00Z"
NODES["lost"]["status"]["conditions"][0]["lastTransitionTime"] = LATER


def deployment(replicas: int = 1, annotations: dict[str, str] | None = None, **status: Any) -> Manifest:
    limits = {"limits": {"gpu.intel.com/xe": "1"}}
    return {
        "metadata": {"name": "m-1", "creationTimestamp": EARLY, "generation": 1,
                     "annotations": {f"serving.atalaya.dev/{key}": told for key, told in (annotations or {}).items()}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "s", "resources": limits}]}}},
        "status": status,
    }  # fmt: skip


def leaving(one: Manifest) -> Manifest:
    one["metadata"]["deletionTimestamp"] = LATER
    return one


QUOTA = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": LATER}


@pytest.mark.parametrize(
    ("pods", "needed", "since"),
    [
        pytest.param([pod("p", "a")], 1, None, id="placed"),
        pytest.param([], 0, None, id="none-needed"),
        pytest.param([pod("p", created=LATER)], 1, LATER, id="waits"),
        pytest.param([], 1, EARLY, id="not-made-yet"),
        pytest.param([pod("p", "lost")], 1, LATER, id="on-a-lost-node"),
        pytest.param([pod("p", "gone")], 1, None, id="on-a-node-that-is-gone-until-it-is-removed"),
        pytest.param([leaving(pod("p", "a")), pod("q", created=LATEST)], 1, LATEST, id="what-leaves-does-not-count"),
        pytest.param([pod("p", "a"), pod("q", created=EARLY)], 1, None, id="enough-though-not-all"),
        pytest.param([pod("p", created=EARLY), pod("q", created=LATER)], 2, EARLY, id="both-needed"),
        pytest.param([pod("p", created=EARLY), pod("q", created=LATER)], 1, LATER,
                     id="one-was-too-many-the-other-was-needed"),
        pytest.param([pod("p", "a"), pod("q", created=EARLY), pod("r", "lost")], 2, LATER,
                     id="the-spare-one-waited-first"),
        pytest.param([pod("p", "a"), pod("q", created=LATER)], 3, EARLY, id="one-not-made-one-waits"),
    ],
)  # fmt: skip
def test_since_when_too_few_pods_have_a_place(pods: list[Manifest], needed: int, since: str | None) -> None:
    assert short_since(deployment(needed), pods, NODES, needed) == since


def test_pods_that_a_quota_keeps_from_being_made_are_missed_since_the_quota_did() -> None:
    assert short_since(deployment(conditions=[QUOTA]), [], NODES, 1) == LATER


def test_no_more_pods_are_missed_than_are_asked_for() -> None:
    assert standing(deployment(0), [], NODES, 1, LATEST).short_for is None
    assert standing(deployment(2), [pod("p", "a")], NODES, 3, LATEST).short_for == 9 * 60


def test_what_was_lacked_before_a_device_was_chosen_again_does_not_count() -> None:
    told = {"device-since": LATER, "device-reason": "why", "devices-tried": "cpu,x", "device-returns-to": "y"}
    found = standing(deployment(annotations=told), [pod("p", created=EARLY)], NODES, 1, LATEST)
    assert (found.age, found.short_for) == (240, 240)
    assert (found.device, found.tried, found.reason, found.returns_to) == ("gpu.intel.com/xe", ("cpu", "x"), "why", "y")


def test_a_clock_that_is_behind_the_api_servers_is_no_negative_age() -> None:
    assert standing(deployment(annotations={"device-since": LATEST}), [], NODES, 1, LATER).age == 0


def test_the_newest_is_the_one_chosen_last_whenever_it_was_made() -> None:
    made_late = deployment()
    made_late["metadata"]["creationTimestamp"] = LATER
    chosen_late = deployment(annotations={"device-since": LATEST})
    assert newest([made_late, chosen_late]) is chosen_late
    tried_more = deployment(annotations={"device-since": LATEST, "devices-tried": "x"})
    assert newest([chosen_late, tried_more]) is tried_more
    assert newest([]) is None
