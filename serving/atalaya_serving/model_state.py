"""What the repository knows of one model, and how it tells it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from atalaya_serving.loading import Fingerprint
from atalaya_serving.served import ServedVersion
from atalaya_serving.settings import ModelSettings


@dataclass(frozen=True)
class VersionState:
    """A line of the index: READY, LOADING or UNAVAILABLE with the reason."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True)
class LifeState:
    """Where a version stands in its life: LOADING, AVAILABLE, UNLOADING, END; END with a reason was never loaded."""

    version: int
    state: str
    reason: str = ""


@dataclass
class Model:
    """One model. `ready` is replaced, never changed; `changing` is held through a reload."""

    settings: ModelSettings
    ready: Mapping[int, ServedVersion] = field(default_factory=dict)
    newest: ServedVersion | None = None
    failed: dict[int, tuple[Fingerprint, str]] = field(default_factory=dict)
    seen: dict[int, Fingerprint] = field(default_factory=dict)
    loading: frozenset[int] = frozenset()
    reason: str = ""
    away: str = ""
    """Why nothing of what serves lies in the folder now; it goes on serving."""
    is_unloaded: bool = False
    is_stale: bool = False
    """Other settings were given than those that its versions were loaded with."""
    is_found: bool = False
    """Found below --model_repository, and forgotten when its folder is gone before it ever served."""
    is_late: bool = False
    """Found after the start: it must not take readiness from the models that serve already."""
    changing: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, ready: Mapping[int, ServedVersion]) -> None:
        self.newest = ready[max(ready)] if ready else None
        self.ready = MappingProxyType(dict(ready))
