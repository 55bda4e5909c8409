"""What CustomResourceDefinitions say of the kinds that come and go, and what is done when they say it.

They are known before anything is decided; whoever follows such a kind begins at an event, after all else is known.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from atalaya_operator.kinds import DEFINED, Kind
from atalaya_operator.listeners import Listener
from atalaya_operator.observed import ModelKey, Observed
from atalaya_operator.platform import OPTIONAL_KINDS, Platform
from atalaya_operator.revision import Manifest
from atalaya_operator.work_queue import WorkQueue

_DEFINED = {kind.name: kind for kind in DEFINED}


class Surroundings:
    """The platform, with the optional kinds that the cluster has now."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.served: frozenset[str] = frozenset()
        """Of the kinds that come and go, those that are there."""

    def learn(self, definition: Manifest, *, is_there: bool) -> None:
        """Take in what a CustomResourceDefinition of such a kind says."""
        kind = definition["spec"]["names"]["kind"]
        self.served = self.served - {kind} | ({kind} if is_there and _is_served(definition) else set())
        self.platform = dataclasses.replace(self.platform, offers=self.served & OPTIONAL_KINDS.keys())


class Follower(Protocol):
    """Whoever follows such a kind."""

    kind: Kind

    def learn(self, *, is_served: bool) -> None:
        """Told at each word of its definition."""
        ...


def definition_listener(
    observed: Observed, queue: WorkQueue[ModelKey], surroundings: Surroundings, followers: Sequence[Follower]
) -> Listener:
    """Every model is looked at when a kind comes or goes, for there may be more to make of it, or less."""

    def look(definition: Manifest) -> None:
        for one in followers:
            if one.kind.name == definition["spec"]["names"]["kind"]:
                one.learn(is_served=one.kind.name in surroundings.served)
        for key in observed.models():
            queue.add(key)

    return Listener(
        keep=lambda found: surroundings.learn(found, is_there=True),
        forget=lambda gone: surroundings.learn(gone, is_there=False),
        look=look,
    )


def concerns_us(definition: Mapping[str, Any]) -> bool:
    """Whether it defines a kind that we make or look at."""
    spec = definition["spec"]
    kind = _DEFINED.get(spec["names"]["kind"])
    return kind is not None and kind.group == spec["group"]


def _is_served(definition: Manifest) -> bool:
    wanted = _DEFINED[definition["spec"]["names"]["kind"]].version
    conditions = (definition.get("status") or {}).get("conditions") or ()
    established = any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
    return established and any(one["name"] == wanted and bool(one["served"]) for one in definition["spec"]["versions"])
