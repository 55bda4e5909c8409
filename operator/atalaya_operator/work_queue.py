"""Keys that wait to be worked on: each at most once at a time, added as often as one likes, now or later."""

import heapq
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """`take` gives a key to one worker, which says `done`; what was added meanwhile is given out again after that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._busy: set[Key] = set()
        self._count = 0
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._due)

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        """Have a key worked on; of several times the earliest counts."""
        due = self._clock() + after_seconds
        with self._changed:
            if due >= self._due.get(key, float("inf")):
                return
            self._due[key] = due
            if key not in self._busy:
                self._push(key)

    def take(self) -> Key | None:
        """Wait for the next key; None when the queue was closed."""
        with self._changed:
            while not self._closed:
                wait = self._heap[0][0] - self._clock() if self._heap else None
                if wait is not None and wait <= 0:
                    due, _, key = heapq.heappop(self._heap)
                    if key in self._busy or self._due.get(key) != due:
                        continue  # added again for an earlier time
                    del self._due[key]
                    self._busy.add(key)
                    return key
                self._changed.wait(wait)
        return None

    def done(self, key: Key) -> None:
        """The key may be given out again."""
        with self._changed:
            self._busy.discard(key)
            if key in self._due:
                self._push(key)

    def close(self) -> None:
        """Let every worker go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _push(self, key: Key) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self._due[key], self._count, key))
        self._changed.notify()
