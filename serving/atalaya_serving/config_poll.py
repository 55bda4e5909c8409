"""Looks at a config file again and again, and has it taken when it has changed."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from atalaya_serving.errors import ServingError, SettingsError

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 0.2


class ConfigPoll:
    """A thread that a wrong file never ends: it is reported once, and what serves goes on serving."""

    def __init__(self, path: Path, seconds: float, take: Callable[[], object]) -> None:
        """`take` reads the file and serves what it says; it raises ServingError or SettingsError."""
        self._path, self._seconds, self._take = path, seconds, take
        self._seen = self._content()
        self._has_failed = False
        self._taking = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-poll", daemon=True)

    def start(self) -> None:
        """Begin; the file as it is now is what serves already."""
        self._thread.start()

    def stop(self) -> bool:
        """End. False when a change is under way, which may load for long and is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_SECONDS)
        return not self._thread.is_alive()

    def look(self) -> None:
        """One look."""
        try:
            self.take_if_new()
        except (ServingError, SettingsError) as error:
            _log.error("config not taken", extra={"file": str(self._path), "reason": str(error)})

    def take_if_new(self, *, again: bool = False) -> bool:
        """Have the file taken where it has changed; `again` also where it was not taken the last time.

        False where there was nothing to take. Raises ServingError, SettingsError.
        """
        with self._taking:
            content = self._content()
            if content == self._seen and not (again and self._has_failed):
                return False
            self._seen, self._has_failed = content, True
            self._take()
            self._has_failed = False
        return True

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.look()

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""
