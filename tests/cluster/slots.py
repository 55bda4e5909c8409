"""Who uses which slot of a checkout, and what a crashed run left in one.

A living run holds its slot's file lock, which the kernel frees when the run dies, however it dies. A state file behind
a free lock is therefore a leftover.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from cluster import cgroups
from cluster.errors import ClusterFault
from cluster.layout import TEST_SLOTS, Layout
from cluster.processes import ProcessId


@dataclass(frozen=True)
class State:
    """What a later process must know to reach a cluster, or to end it."""

    init: ProcessId
    processes: Mapping[str, ProcessId] = field(default_factory=dict)
    ready: bool = False

    def write(self, file: Path) -> None:
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(self), indent=1))
        unfinished.rename(file)

    @classmethod
    def read(cls, file: Path) -> "State | None":
        try:
            data = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        processes = {name: ProcessId(**process) for name, process in data["processes"].items()}
        return cls(ProcessId(**data["init"]), processes, data["ready"])


class SlotLock:
    """The right to start and end the cluster of one slot."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Whether the slot was free; never waits."""
        self._layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
        file = self._layout.lock_file.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def take_test_slot(checkout: Path) -> tuple[Layout, SlotLock]:
    """The first free slot for a test run, and no leftover in any free one."""
    taken: tuple[Layout, SlotLock] | None = None
    for slot in TEST_SLOTS:
        layout = Layout(slot, checkout)
        lock = SlotLock(layout)
        if not lock.take():
            continue
        end_what_runs(layout)
        if taken is None:
            taken = layout, lock
        else:
            lock.release()
    if taken is None:
        raise ClusterFault(f"{len(TEST_SLOTS)} test runs of {checkout} use a cluster already: wait for one to end")
    return taken


def end_what_runs(layout: Layout) -> bool:
    """End the cluster of a slot, whoever started it, and remove all it left but its logs. True when one was there."""
    state = State.read(layout.state_file)
    if state is not None:
        for process in (state.init, *state.processes.values()):  # with the first all inside end; the rest is nsenter
            process.kill()
    cgroups.remove(layout.name)
    if layout.run.is_dir():
        unmount_below(layout.run)
        _throw_away([entry for entry in layout.run.iterdir() if entry != layout.logs], layout.trash)
    return state is not None


def _throw_away(entries: Sequence[Path], trash: Path) -> None:
    """Rename now, delete behind the caller's back: unpacked images are many files, which take half a minute."""
    heap = trash / f"{time.time_ns()}"
    heap.mkdir(parents=True)
    for entry in entries:
        entry.rename(heap / entry.name)
    heaps = [str(old) for old in trash.iterdir()]  # an interrupted deletion is taken up too
    subprocess.run(["setsid", "--fork", "nice", "-n", "19", "rm", "-rf", "--", *heaps], check=True)


def unmount_below(folder: Path) -> None:
    """Nothing of a cluster is mounted outside its namespace; were something, deleting must not reach through."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((name for name in mounts if name.startswith(f"{folder}/")), reverse=True):
        with contextlib.suppress(ProcessLookupError):
            os.spawnlp(os.P_WAIT, "umount", "umount", "--lazy", mount)
