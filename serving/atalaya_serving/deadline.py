"""One moment that several waits share, so that they do not add up."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """So many seconds from its making."""

    seconds: float
    _from: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self._from + self.seconds - time.monotonic())
