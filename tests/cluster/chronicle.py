"""When what became visible: several watches of one namespace, each object with the moment in which it was seen."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from cluster.access import Cluster
from cluster.errors import ClusterFault

Manifest = dict[str, Any]
Holds = Callable[[Manifest], bool]
KINDS = ("pods", "deployments", "nodes", "inferencemodels")


@dataclass(frozen=True)
class Sight:
    """An object as it was, and when that was seen."""

    at: float
    object: Manifest


class Chronicle:
    """What was seen so far, and what is still to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: dict[str, list[Sight]] = {kind: [] for kind in KINDS}

    def first(self, kind: str, holds: Holds, since: float = 0.0, timeout_seconds: float = 120) -> Sight:
        """The first sight, at or after a moment, of an object of which this holds."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                for sight in self._seen[kind]:
                    if sight.at >= since and holds(sight.object):
                        return sight
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() > deadline:
                    last = json.dumps([one.object for one in self._seen[kind][-1:]])[:3000]
                    raise ClusterFault(f"never seen of {kind} within {timeout_seconds:.0f} s; the last was {last}")

    def all(self, kind: str) -> list[Sight]:
        """Everything of a kind that was seen so far."""
        with self._changed:
            return list(self._seen[kind])

    def read(self, kind: str, stream: IO[str]) -> None:
        """Take in what `kubectl get --watch --output=json` prints: one object after the other."""
        lines: list[str] = []
        for line in stream:
            lines.append(line)
            if line == "}\n":
                found = json.loads("".join(lines))
                lines.clear()
                with self._changed:
                    self._seen[kind].append(Sight(time.monotonic(), found))
                    self._changed.notify_all()


@contextmanager
def chronicle(cluster: Cluster, namespace: str, kinds: Sequence[str] = KINDS) -> Iterator[Chronicle]:
    """Watches for the time of a test."""
    made = Chronicle()
    kubectl = str(cluster.binaries.path("kubectl"))
    processes, threads = [], []
    for kind in kinds:
        command = [kubectl, "get", kind, "--namespace", namespace, "--watch", "--output=json"]
        process = subprocess.Popen(
            command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout
        processes.append(process)
        threads.append(threading.Thread(target=made.read, args=(kind, process.stdout), daemon=True))
        threads[-1].start()
    try:
        yield made
    finally:
        for process, thread in zip(processes, threads, strict=True):
            process.kill()
            thread.join(10)
            with process:
                pass
