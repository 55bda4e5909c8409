"""Following a kind without kopf: a list, then a watch from its version on, for as long as the API server can go on.

Who follows keeps what it is told, and lists again when it is told to.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from atalaya_operator.kinds import Kind
from atalaya_operator.revision import Manifest

DELETED = "DELETED"
_BOOKMARK, _ERROR = "BOOKMARK", "ERROR"


class Watched(Protocol):
    """The cluster, as far as it is followed. Raises TryAgain and ObjectRefused."""

    def pages(self, kind: Kind, selection: Mapping[str, str]) -> Iterator[Manifest]:
        """The objects of a kind, as pages of a list; no page where the kind is not served."""
        ...

    def changes(self, kind: Kind, selection: Mapping[str, str], version: str) -> Iterator[Manifest]:
        """What happened to them since a version, until the connection ends; `type` and `object` each."""
        ...


def follow(changes: Iterator[Manifest], version: str, take_in: Callable[[str, Manifest], None]) -> str:
    """Tell of each change. Answers the version to go on from; empty when all must be listed again."""
    for change in changes:
        what, found = change["type"], change["object"]
        if what == _ERROR:  # too old to go on from
            return ""
        version = str(found["metadata"]["resourceVersion"])
        if what != _BOOKMARK:
            take_in(what, found)
    return version
