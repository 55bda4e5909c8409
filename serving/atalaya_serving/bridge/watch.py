"""Whether the upstream serves, asked again and again: a health check of the bridge is answered at once, from memory."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from atalaya_serving.bridge.remote import RemoteModels
from atalaya_serving.errors import ServingError

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 2.0
_STOP_SECONDS = 0.2
ASKED_AT_ONCE = 8
"""Models that the upstream is asked for at the same time: one that it is slow to tell holds up no other."""


class Watch:
    """Ready when the upstream says that it is, and each model of `names` serves there."""

    def __init__(self, models: RemoteModels, names: Sequence[str], seconds: float) -> None:
        self._models, self._names, self._seconds = models, names, seconds
        self.is_ready = False
        self._told: str | None = None
        self._stopping = threading.Event()
        self._askers = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="watch-ask")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Look once, then go on looking."""
        self.look()
        self._thread.start()

    def stop(self) -> bool:
        """End. False when an upstream is slow to tell, which is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():  # not before the first look is over
            self._thread.join(_STOP_SECONDS)
        return not self._thread.is_alive()

    def look(self) -> None:
        """One look; a change is logged."""
        why = self._why_not()
        self.is_ready = not why
        if why != self._told:
            self._told = why
            if why:
                _log.warning("upstream not ready", extra={"reason": why})
            else:
                _log.info("upstream ready")

    def _why_not(self) -> str:
        try:
            if not self._models.is_server_ready(_PATIENCE_SECONDS):
                return "it says that it is not ready."
            serves = self._askers.map(lambda name: self._models.is_model_ready(name, ""), self._names)
            missing = [name for name, is_ready in zip(self._names, serves, strict=True) if not is_ready]
        except ServingError as error:
            return str(error)
        return f"it does not serve {', '.join(missing)}." if missing else ""

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the edge of a thread: one bad look must not end all later ones
                self.is_ready = False
                _log.exception("a look at the upstream failed")
