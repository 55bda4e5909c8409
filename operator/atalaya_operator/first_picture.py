"""Takes in the whole cluster once, before anything is decided: every kind that we watch but models, as it is.

kopf can wait for the first lists by itself, with an index a kind. But then each object of each list wakes whoever waits
for the rest: with those of a thousand models that takes most of a minute. So all is listed here, and kopf follows.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atalaya_operator.kinds import Kind
from atalaya_operator.listeners import Listener
from atalaya_operator.names import MODEL_LABEL
from atalaya_operator.revision import Manifest

_LOG = logging.getLogger(__name__)


class Pages(Protocol):
    """The cluster, as far as it is listed. Raises TryAgain and ObjectRefused."""

    def pages(self, kind: Kind, selection: Mapping[str, str]) -> Iterator[Manifest]:
        """The objects of a kind, as pages of a list; no page where the kind is not served."""
        ...


@dataclass(frozen=True)
class Watch:
    """One kind, and what is done with what is told of it."""

    kind: Kind
    listener: Listener
    is_of_models: bool = True
    """Whether only what has our label is asked for."""
    concerns: Callable[[Mapping[str, Any]], bool] = lambda _: True
    """Which of those matter."""

    @property
    def selection(self) -> Mapping[str, str]:
        """What the API server selects by."""
        return {"labelSelector": MODEL_LABEL} if self.is_of_models else {}


def take_in(cluster: Pages, watches: Sequence[Watch]) -> None:
    """Keep every object there is. Raises TryAgain and ObjectRefused; what was kept until then does no harm."""
    count = 0
    for watch in watches:
        kind = {"apiVersion": watch.kind.api_version, "kind": watch.kind.name}  # a list leaves them out of its items
        for page in cluster.pages(watch.kind, watch.selection):
            for found in filter(watch.concerns, page["items"]):
                watch.listener.keep(found | kind)
                count += 1
    _LOG.info("%d objects are known at the start.", count)
