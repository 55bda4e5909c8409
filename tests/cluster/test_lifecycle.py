"""A cluster ends wholly: when asked, and when its runner was killed and the next run finds what it left."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import cgroups
from cluster.access import Cluster
from cluster.errors import ClusterFault
from cluster.layout import CHECKOUT, Layout
from cluster.processes import ProcessId
from cluster.slots import SlotLock, State, end_what_runs

SLOT = "leftover"
RUNNER = f"""
from cluster.layout import Layout
from cluster.lifecycle import start
from cluster.slots import SlotLock
layout = Layout({SLOT!r})
lock = SlotLock(layout)
assert lock.take()
running = start(layout)
print("up", flush=True)
input()
"""


@pytest.fixture
def next_run() -> Iterator[tuple[Layout, SlotLock]]:
    """Who comes to the slot after a crash."""
    layout = Layout(SLOT)
    lock = SlotLock(layout)
    yield layout, lock
    end_what_runs(layout)
    lock.release()


def inside(layout: Layout) -> list[int]:
    """All processes of a cluster's pods, by their cgroup."""
    found = []
    for file in cgroups.hierarchies()[0].joinpath(layout.name).rglob("cgroup.procs"):
        found += [int(pid) for pid in file.read_text().split()]
    return found


def test_the_next_run_cleans_up_after_a_runner_that_was_killed(
    cluster: Cluster, next_run: tuple[Layout, SlotLock]
) -> None:
    layout, lock = next_run
    command = [sys.executable, "-c", RUNNER]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "up\n"
        assert not lock.take()  # a living run keeps its slot
        runner.kill()
    left = State.read(layout.state_file)
    assert left is not None
    assert left.init.is_alive()
    assert all(process.is_alive() for process in left.processes.values())
    assert inside(layout)

    assert lock.take()
    assert end_what_runs(layout)

    assert not left.init.is_alive()
    assert [name for name, process in left.processes.items() if process.is_alive()] == []
    assert [path.name for path in layout.run.iterdir()] == ["logs"]
    assert not any((hierarchy / layout.name).exists() for hierarchy in cgroups.hierarchies())
    assert str(layout.run) not in Path("/proc/mounts").read_text()
    assert not end_what_runs(layout)
    assert "node-1" in cluster.kubectl("get", "nodes")  # a cluster beside it lives on


def test_nothing_is_mounted_or_listening_outside_the_namespace(cluster: Cluster) -> None:
    assert str(cluster.layout.run) not in Path("/proc/mounts").read_text()
    assert list(Path("/var/lib/kubelet").iterdir()) == []
    outside = subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout
    assert "198.1" not in outside


def test_a_process_that_took_over_a_pid_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        known = ProcessId.of(stranger.pid)
        ProcessId(known.pid, known.start_ticks - 1).kill()
        assert stranger.poll() is None
        assert known.is_alive()
        known.kill()
    assert not known.is_alive()
    known.kill()  # and once more is no error


def test_a_component_that_ended_is_told_with_its_last_words(cluster: Cluster) -> None:
    cluster.spawn("short-lived", ["sh", "-c", "echo cannot go on; exit 3"])
    cluster.processes.wait("short-lived")
    with pytest.raises(ClusterFault, match=r"short-lived ended with code 3(.|\n)*cannot go on"):
        cluster.processes.check()
    cluster.processes.forget("short-lived")


def test_each_checkout_and_slot_has_names_of_its_own(tmp_path: Path) -> None:
    layouts = [Layout("dev"), Layout("test-0"), Layout("dev", tmp_path)]
    assert len({layout.name for layout in layouts}) == 3
    assert len({layout.run for layout in layouts}) == 3
