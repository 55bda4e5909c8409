"""Which of a model's versions shall serve: OVMS' three policies. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VersionPolicy:
    """Exactly one of: the newest `latest` versions, the `specific` ones, or all (both unset)."""

    latest: int | None = None
    specific: tuple[int, ...] | None = None

    def wanted(self, available: Iterable[int]) -> frozenset[int]:
        """The versions to serve, out of those that lie there."""
        there = sorted(available)
        if self.specific is not None:
            return frozenset(self.specific) & frozenset(there)
        return frozenset(there if self.latest is None else there[-self.latest :])

    def missing(self, available: Iterable[int]) -> frozenset[int]:
        """The versions that are asked for by number and do not lie there."""
        return frozenset(self.specific or ()) - frozenset(available)


LATEST = VersionPolicy(latest=1)
ALL = VersionPolicy()
_SUCH_AS = '{"latest": {"num_versions": 1}}'


def parse_policy(raw: Mapping[str, Any] | None) -> VersionPolicy:
    """Read `{"latest": {"num_versions": 2}}`, `{"specific": {"versions": [1, 3]}}` or `{"all": {}}`.

    Raises ValueError that says what is wrong.
    """
    if raw is None:
        return LATEST
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise ValueError("a version policy has exactly one of latest, specific, all")
    kind, body = next(iter(raw.items()))
    if body is not None and not isinstance(body, Mapping):
        raise ValueError(f"the version policy {kind!r} holds {body!r}, not an object; write one such as {_SUCH_AS}")
    if kind == "all":
        return ALL
    if kind == "latest":
        count = (body or {}).get("num_versions", 1)
        if not _is_version(count):
            raise ValueError(f"num_versions is {count!r}, not a positive integer")
        return VersionPolicy(latest=count)
    if kind == "specific":
        versions = (body or {}).get("versions")
        if not isinstance(versions, list) or not versions or not all(map(_is_version, versions)):
            raise ValueError("specific needs versions, a list of positive integers")
        return VersionPolicy(specific=tuple(sorted(set(versions))))
    raise ValueError(f"unknown version policy {kind!r}; it is latest, specific or all")


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
