"""Answers that are kept for a moment, so that many who want the same of the API server ask once."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

KEEP_SECONDS = 1.0
Answer = TypeVar("Answer")


class Kept(Generic[Answer]):
    """Safe for threads; those who ask in the very same moment all ask. What could not be asked is not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._answers: dict[str, tuple[float, Answer]] = {}

    def get(self, about: str, ask: Callable[[], Answer]) -> Answer:
        """What was answered a moment ago, or is now."""
        with self._lock:
            self._answers = {key: one for key, one in self._answers.items() if self._clock() - one[0] < KEEP_SECONDS}
            if about in self._answers:
                return self._answers[about][1]
        answer = ask()
        with self._lock:
            self._answers[about] = self._clock(), answer
        return answer
