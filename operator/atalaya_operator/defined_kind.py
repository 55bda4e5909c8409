"""A kind that a CustomResourceDefinition makes, followed whenever it is served, however often its definition comes.

Not by kopf: it asks for a group's resources once at each word of a definition, and an API server may show a kind there
a moment after its last word. What is missed then is missed until the operator starts again. Here the definition's word
only says that listing is worth trying, and it is tried until it works.
"""

import logging
import threading

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.following import DELETED, Watched, follow
from atalaya_operator.kinds import MODELS, Kind
from atalaya_operator.listeners import Listener
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.observed import Observed
from atalaya_operator.revision import Manifest

_PAUSE_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


class DefinedKind:
    """A thread that follows one such kind."""

    def __init__(self, cluster: Watched, kind: Kind, listener: Listener, observed: Observed) -> None:
        """`observed` is where the listener keeps: what it has of the kind and a list has not is forgotten."""
        self._cluster, self.kind = cluster, kind
        self._selection = {} if kind == MODELS else {"labelSelector": MODEL_LABEL}
        self._listener, self._observed = listener, observed
        self._is_served, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{kind.plural}", daemon=True)

    def start(self) -> None:
        """Nothing is asked before the definition is told of."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._ended.set()
        self._is_served.set()

    def learn(self, *, is_served: bool) -> None:
        """What the definition says now."""
        if is_served:
            self._is_served.set()
        elif not self._ended.is_set():
            self._is_served.clear()

    def _run(self) -> None:
        self._is_served.wait()
        while not self._ended.is_set():
            try:
                is_there = self._list_and_follow()
            except (TryAgain, ObjectRefused) as error:
                _LOG.info("Objects of the kind %s are listed again: %s", self.kind.name, error)
                is_there = True
            self._ended.wait(_PAUSE_SECONDS)
            if not is_there:
                self._is_served.wait()

    def _list_and_follow(self) -> bool:
        """Until all must be listed again. Answers whether the kind is served."""
        version = self._list()
        is_there = bool(version)
        while version and not self._ended.is_set():
            version = follow(self._cluster.changes(self.kind, self._selection, version), version, self._take_in)
        return is_there

    def _list(self) -> str:
        """Answers the version at which it held; empty where the kind is not served."""
        there: set[str] = set()
        version = ""
        for page in self._cluster.pages(self.kind, self._selection):
            for found in page["items"]:
                there.add(found["metadata"]["uid"])
                self._take_in("", found)
            version = str(page["metadata"]["resourceVersion"])
        for known in self._observed.of_kind(self.kind.name):
            metadata = known["metadata"]
            if metadata["uid"] not in there and (not version or int(metadata["resourceVersion"]) <= int(version)):
                self._take_in(DELETED, known)
        return version

    def _take_in(self, what: str, found: Manifest) -> None:
        (self._listener.forget if what == DELETED else self._listener.keep)(found)
        self._listener.look(found)
