"""What client, server and the rest of the machine used between two moments."""

import time
from dataclasses import dataclass

from atalaya_serving.benching.machine import Ticks, load_1m, noise
from atalaya_serving.benching.processes import Tree
from atalaya_serving.benching.records import Noise


@dataclass(frozen=True)
class Usage:
    """CPU seconds of each, and what else the machine did; `server` is None where we cannot look."""

    server: float | None
    client: float
    noise: Noise


class Watch:
    """Starts with its making. `tree` is the server's; without one, `is_alone` says that there is no server at all."""

    def __init__(self, tree: Tree | None = None, *, is_alone: bool = False) -> None:
        self._tree, self._is_alone = tree, is_alone
        self._server = tree.cpu_seconds() if tree else None
        self._client, self._ticks = time.process_time(), Ticks.now()

    def stop(self) -> Usage:
        """What was used since the start."""
        after, client = Ticks.now(), time.process_time() - self._client
        server = None
        if self._tree is not None and self._server is not None:
            server = self._tree.cpu_seconds() - self._server
        own = client + (server or 0.0) if server is not None or self._is_alone else None
        return Usage(server, client, noise(self._ticks, after, own, load_1m()))
