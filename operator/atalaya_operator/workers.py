"""Threads that take models from the queue and reconcile them; a failed one comes back later, and later each time."""

import logging
import random
import threading
from collections.abc import Callable

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.metrics import QUEUE_LENGTH, RECONCILE_ERRORS, RECONCILE_SECONDS
from atalaya_operator.observed import ModelKey
from atalaya_operator.work_queue import WorkQueue

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.2, 60.0
_STOP_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


class Workers:
    """A few threads over one queue. Several models at a time, one model never twice at a time."""

    def __init__(self, queue: WorkQueue[ModelKey], reconcile: Callable[[ModelKey], float | None], count: int) -> None:
        self._queue, self._reconcile = queue, reconcile
        self._failures: dict[ModelKey, int] = {}
        self._threads = [threading.Thread(target=self._run, name=f"worker-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """Begin to work."""
        QUEUE_LENGTH.set_function(lambda: float(len(self._queue)))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is being worked on, and nothing more."""
        self._queue.close()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while (key := self._queue.take()) is not None:
            try:
                with RECONCILE_SECONDS.time():
                    again = self._reconcile(key)
                self._failures.pop(key, None)
            except (TryAgain, ObjectRefused) as error:
                again = self._later(key, getattr(error, "after_seconds", None))
                RECONCILE_ERRORS.labels(cause="try_again" if isinstance(error, TryAgain) else "refused").inc()
                _LOG.info("%s/%s: %s It is tried again in %.1f s.", *key, error, again)
            except Exception:  # noqa: BLE001 - the thread's outermost edge: one model's defect must not stop the others
                again = self._later(key, None)
                RECONCILE_ERRORS.labels(cause="defect").inc()
                _LOG.exception("%s/%s: a defect of Atalaya; it is tried again in %.1f s.", *key, again)
            if again is not None:
                self._queue.add(key, again)
            self._queue.done(key)

    def _later(self, key: ModelKey, at_least_seconds: float | None) -> float:
        """Twice as late each time, not all at once."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * float(2 ** min(failures, 16)))
        return max(at_least_seconds or 0.0, delay) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
