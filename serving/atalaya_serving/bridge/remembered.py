"""What the upstream told of its models a moment ago, so that JSON calls do not ask for metadata each time."""

import threading
import time
from collections.abc import Callable

from atalaya_serving.served import ServedVersion

_SECONDS = 1.0
_MOST = 1024


class Remembered:
    """Answers by model and version, good for a second, or until a call shows that they are out of date."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, ServedVersion]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, version: str, ask: Callable[[str, str], ServedVersion]) -> ServedVersion:
        """The remembered answer, or what `ask` gives. Raises what `ask` raises."""
        with self._lock:
            known = self._known.get((name, version))
        now = time.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        served = ask(name, version)
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[name, version] = now + _SECONDS, served
        return served

    def forget(self, name: str) -> None:
        """A model has changed."""
        with self._lock:
            for key in [key for key in self._known if key[0] == name]:
                del self._known[key]
