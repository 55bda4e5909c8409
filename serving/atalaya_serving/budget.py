"""How many bytes of input this server holds for calls that it has accepted and not yet answered.

The queues are bounded by calls, which says nothing about memory: 128 calls may be 8 MiB or 8 GiB.
"""

import threading

MESSAGES_HELD = 8
"""The bound, in messages of the largest size that is taken."""


class ByteBudget:
    """A count of bytes with a bound. One call is always taken, whatever its size: the message limit bounds it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes now."""
        return self._held

    def take(self, count: int) -> bool:
        """Count `count` bytes more; False, and nothing is counted, where they would pass the bound."""
        with self._lock:
            if self._held and self._held + count > self.limit:
                return False
            self._held += count
            return True

    def give_back(self, count: int) -> None:
        """What was taken is free again."""
        with self._lock:
            self._held -= count
