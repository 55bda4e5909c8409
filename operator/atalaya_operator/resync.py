"""Finds what the watches missed: an object that was removed while a watch was broken for longer than it can look back.

Soon after the start, for what went between the first picture and the first watch, then every few minutes, each kind is
listed, and what is known of and no longer there is forgotten. It writes nothing; in a cluster at rest it is a dozen
requests.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.kinds import NODES, OWNED, PODS, Kind
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.revision import Manifest

FIRST_SECONDS, EVERY_SECONDS = 20.0, 300.0
_LOG = logging.getLogger(__name__)


class Lister(Protocol):
    """The cluster, as far as it is listed. Raises TryAgain and ObjectRefused."""

    def uids(self, kind: Kind) -> tuple[frozenset[str], int]:
        """The uids of all objects of a kind that we watch, and the version of the cluster at which that held."""
        ...


def forget_what_is_gone(cluster: Lister, observed: Observed, kinds: Iterable[Kind]) -> set[ModelKey]:
    """Answers which models it concerns."""
    concerned: set[ModelKey] = set()
    for kind in kinds:
        there, version = cluster.uids(kind)
        for known in observed.of_kind(kind.name):
            metadata = known["metadata"]
            if metadata["uid"] not in there and int(metadata["resourceVersion"]) <= version:
                concerned |= _forget(observed, kind, known)
    return concerned


def _forget(observed: Observed, kind: Kind, gone: Manifest) -> set[ModelKey]:
    if kind == NODES:
        observed.drop_node(gone)
        return observed.concerned_by(gone["metadata"]["name"])
    return {observed.drop_pod(gone) if kind == PODS else observed.drop(gone)}


class Resync:
    """A thread that does so now and then."""

    def __init__(self, cluster: Lister, observed: Observed, look: Callable[[ModelKey], None], models: Kind) -> None:
        self._cluster, self._observed, self._look = cluster, observed, look
        self._kinds = (*OWNED, PODS, NODES, models)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resync", daemon=True)

    def start(self) -> None:
        """Begin; the first time is one interval away."""
        self._thread.start()

    def stop(self) -> None:
        """Do it no more."""
        self._ended.set()

    def _run(self) -> None:
        wait = FIRST_SECONDS
        while not self._ended.wait(wait):
            wait = EVERY_SECONDS
            try:
                for key in forget_what_is_gone(self._cluster, self._observed, self._kinds):
                    self._look(key)
            except (TryAgain, ObjectRefused) as error:
                _LOG.info("What the watches may have missed is looked for later: %s", error)
