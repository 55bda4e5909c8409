"""What is free of an accelerator: every way in which a node's offer is not to be had, and how that is told."""

from typing import Any

import pytest

from atalaya_operator.accelerators import Owner, Stock, amounts_of, holder, stock
from atalaya_operator.devices import tolerations
from atalaya_spec.server_versions import INTEL_XE, NVIDIA
from builders_devices import Manifest, node, pod

MINE = Owner("default", "m", "new")
OLD = Owner("default", "m", "old")
OTHER = Owner("default", "other", "new")


def stocked(nodes: list[Manifest], *held: tuple[Owner | None, Manifest], device: str = INTEL_XE) -> Stock:
    holders = [found for owner, one in held if (found := holder(one, owner))]
    return stock(device, tolerations(device), {one["metadata"]["name"]: one for one in nodes}, holders, MINE)


@pytest.mark.parametrize(
    ("nodes", "held", "room", "told"),
    [
        pytest.param([], [], 0, "no node offers gpu.intel.com/xe", id="none"),
        pytest.param([node("a")], [], 0, "no node offers gpu.intel.com/xe", id="nodes-without"),
        pytest.param([node("a", i915=4, nvidia=4)], [], 0, "no node offers gpu.intel.com/xe", id="others-only"),
        pytest.param([node("a", xe=2)], [], 2, "", id="all-free"),
        pytest.param([node("a", "gpu.intel.com/xe=present:NoSchedule", xe=2)], [], 2, "", id="tainted-as-usual"),
        pytest.param([node("a", "x:PreferNoSchedule", xe=2)], [], 2, "", id="only-preferred-away"),
        pytest.param([node("a", "dedicated=training:NoSchedule", xe=2)], [], 0,
                     "no node that offers gpu.intel.com/xe takes its pods (a has the taint "
                     "dedicated=training:NoSchedule)", id="tainted-otherwise"),
        pytest.param([node("a", "gpu.intel.com/xe:NoExecute", xe=2)], [], 0,
                     "no node that offers gpu.intel.com/xe takes its pods (a has the taint gpu.intel.com/xe:NoExecute)",
                     id="no-execute"),
        pytest.param([node("a", xe=2, cordoned=True)], [], 0,
                     "no node that offers gpu.intel.com/xe takes its pods (a is cordoned)", id="cordoned"),
        pytest.param([node("a", xe=2, ready=False)], [(None, pod("p", "a", xe=1))], 0,
                     "no node that offers gpu.intel.com/xe takes its pods (a is not ready)", id="lost"),
        pytest.param([node("a", xe=2), node("b", xe=1, ready=False)], [(None, pod("p", "a", xe=2))], 0,
                     "of 2 gpu.intel.com/xe 0 are free, 1 is needed (b is not ready)", id="full-and-lost"),
        pytest.param([node("a", xe=2), node("b", xe=1)], [(None, pod("p", "a", xe=1))], 2, "", id="several-nodes"),
        pytest.param([node("a", xe=1), node("b", xe=1)], [(None, pod("p", "a", xe=2))], 1, "", id="not-less-than-none"),
        pytest.param([node("a", xe=2)], [(MINE, pod("p", "a", xe=1)), (None, pod("q", "a", xe=1))], 1, "",
                     id="its-own-counts-as-room"),
        pytest.param([node("a", xe=1, cordoned=True)], [(MINE, pod("p", "a", xe=1))], 1, "",
                     id="its-own-on-a-cordoned-node"),
        pytest.param([node("a", xe=1, ready=False)], [(MINE, pod("p", "a", xe=1))], 0,
                     "no node that offers gpu.intel.com/xe takes its pods (a is not ready)",
                     id="its-own-on-a-lost-node"),
        pytest.param([node("a", xe=1)], [(OLD, pod("p", "a", xe=1))], 0,
                     "of 1 gpu.intel.com/xe 0 are free, 1 is needed, the revision before it holds 1",
                     id="the-revision-before-holds-it"),
        pytest.param([node("a", xe=1)], [(OTHER, pod("p", xe=1))], 0,
                     "of 1 gpu.intel.com/xe 1 is free, 1 is needed, pods that wait ask for 1", id="promised-to-others"),
        pytest.param([node("a", xe=1)], [(MINE, pod("p", xe=1))], 1, "", id="its-own-waiting-pods-claim-nothing"),
        pytest.param([node("a", xe=1)], [(None, pod("p", "gone", xe=1))], 1, "", id="on-a-node-that-is-gone"),
        pytest.param([node("a", xe=1)], [(None, pod("p", "a", npu=1))], 1, "", id="another-accelerator-of-the-node"),
    ],
)  # fmt: skip
def test_what_is_free(nodes: list[Manifest], held: list[Any], room: int, told: str) -> None:
    found = stocked(nodes, *held)
    assert (found.room, found.lack(1)) == (room, told)


def test_many_obstacles_are_told_in_short() -> None:
    told = stocked([node(f"n{i}", xe=1, ready=False) for i in range(9)]).lack(1)
    assert told.endswith("(n0 is not ready; n1 is not ready; n2 is not ready; 6 more)")


@pytest.mark.parametrize(
    ("nodes", "held", "never"),
    [
        pytest.param([node("a", xe=1)], [(OLD, pod("p", "a", xe=1))], True, id="one-for-both"),
        pytest.param([node("a", xe=2)], [(OLD, pod("p", "a", xe=1)), (None, pod("q", "a", xe=1))], False,
                     id="another-could-leave"),
        pytest.param([node("a", xe=1)], [(None, pod("q", "a", xe=1))], False, id="held-by-others-only"),
    ],
)  # fmt: skip
def test_what_can_never_fit_beside_the_revision_before(nodes: list[Manifest], held: list[Any], never: bool) -> None:
    assert stocked(nodes, *held).never_fits(1) is never


@pytest.mark.parametrize("resource", ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "nvidia.com/mig-1g.5gb.shared"])
def test_shares_and_slices_are_counted_by_their_own_name_and_tolerate_the_taint_of_the_whole(resource: str) -> None:
    there = node("a", "nvidia.com/gpu=present:NoSchedule", nvidia=1)
    there["status"]["allocatable"][resource] = "7"
    taken = pod("p", "a", nvidia=1)
    assert stocked([there], (None, taken), device=resource).room == 7
    assert stocked([there], (None, taken), device=NVIDIA).room == 0


def container(resources: dict[str, str], **more: str) -> Manifest:
    return {"name": "c", "resources": {"limits": resources}, **more}


@pytest.mark.parametrize(
    ("spec", "amounts"),
    [
        pytest.param({"containers": [container({"cpu": "4", "memory": "1Gi"})]}, {}, id="no-accelerator"),
        pytest.param({"containers": [container({NVIDIA: "1"}), container({NVIDIA: "2"})]}, {NVIDIA: 3}, id="they-add"),
        pytest.param({"containers": [container({NVIDIA: "1"})], "initContainers": [container({NVIDIA: "2"})]},
                     {NVIDIA: 2}, id="what-runs-before-does-not-add"),
        pytest.param({"containers": [container({NVIDIA: "1"})],
                      "initContainers": [container({NVIDIA: "1"}, restartPolicy="Always")]}, {NVIDIA: 2}, id="sidecar"),
        pytest.param({"containers": [container({NVIDIA: "1k"})]}, {NVIDIA: 1000}, id="a-thousand"),
        pytest.param({"containers": [container({"nvidia.com/mig-1g.5gb": "1", NVIDIA: "0"})]},
                     {"nvidia.com/mig-1g.5gb": 1}, id="slices-are-another-resource"),
        pytest.param({"containers": [{"name": "c"}]}, {}, id="says-nothing"),
    ],
)  # fmt: skip
def test_what_a_pod_takes(spec: Manifest, amounts: dict[str, int]) -> None:
    assert amounts_of(spec) == amounts


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_holds_nothing(phase: str) -> None:
    one = pod("p", "a", xe=1)
    one["status"]["phase"] = phase
    assert holder(one) is None


@pytest.mark.parametrize("phase", ["Running", "Unknown", "Pending"])
def test_a_pod_of_any_other_phase_holds_what_it_was_given(phase: str) -> None:
    one = pod("p", "a", xe=1)
    one["status"]["phase"] = phase
    one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert stocked([node("a", xe=1)], (None, one)).room == 0


def test_a_pod_that_is_held_back_by_a_gate_claims_nothing() -> None:
    one = pod("p", xe=1)
    one["spec"]["schedulingGates"] = [{"name": "queue"}]
    assert stocked([node("a", xe=1)], (None, one)).room == 1
