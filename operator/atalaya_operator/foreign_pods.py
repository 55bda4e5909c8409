"""The accelerators that pods of others hold: a watch of all pods but our models', begun when a model has a choice.

A plugin's resource is no field that an API server selects by, so every pod is told of. Of each only what it holds is
kept, line by line, without kopf, which would keep a task a pod; a cluster without such models is asked nothing.
"""

import logging
import threading
from collections.abc import Callable, Iterable

from atalaya_operator.accelerators import Holder, holder
from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.following import DELETED, Watched, follow
from atalaya_operator.kinds import PODS
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.revision import Manifest

SELECTION = {"labelSelector": f"!{MODEL_LABEL}", "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
FIRST_LIST_SECONDS = 15.0
_PAUSE_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


class ForeignPods:
    """Who holds accelerators beside our models."""

    def __init__(self, cluster: Watched, changed: Callable[[], None]) -> None:
        """`changed` is called whenever another pod holds or waits for an accelerator, or does no longer."""
        self._cluster, self._changed = cluster, changed
        self._lock = threading.Lock()
        self._holders: dict[str, Holder] = {}
        self._is_complete, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._refusal: ObjectRefused | None = None

    def holders(self) -> Iterable[Holder]:
        """All there are. Raises TryAgain while they are not known yet, ObjectRefused when they may not be known."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="foreign-pods", daemon=True)
                self._thread.start()
        if not self._is_complete.wait(FIRST_LIST_SECONDS):
            raise TryAgain("which accelerators pods hold is not known yet.")
        if self._refusal:
            raise self._refusal
        with self._lock:
            return list(self._holders.values())

    def start(self) -> None:
        """It begins when it is asked."""

    def stop(self) -> None:
        """Follow no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                version = self._list()
                self._refusal = None
                self._is_complete.set()
                self._changed()
                while version and not self._ended.is_set():
                    version = follow(self._cluster.changes(PODS, SELECTION, version), version, self._take_in)
            except TryAgain as error:
                _LOG.info("Pods of others are listed again: %s", error)
            except ObjectRefused as refused:
                self._refusal = refused
                self._is_complete.set()
            self._ended.wait(_PAUSE_SECONDS)

    def _list(self) -> str:
        there: dict[str, Holder] = {}
        version = ""
        for page in self._cluster.pages(PODS, SELECTION):
            there |= {found.uid: found for found in map(holder, page["items"]) if found}
            version = str(page["metadata"]["resourceVersion"])
        with self._lock:
            self._holders = there
        return version

    def _take_in(self, what: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        now = None if what == DELETED else holder(pod)
        with self._lock:
            before = self._holders.pop(uid, None)
            if now:
                self._holders[uid] = now
        if before != now:
            self._changed()
