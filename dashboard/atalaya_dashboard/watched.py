"""What a page knows of one source of figures, however they were come by: read from servers, or asked of Prometheus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atalaya_dashboard.metrics import Lately, ModelKey, Window


@dataclass(frozen=True)
class Whole:
    """All that a model's server counted since it started."""

    window: Window
    buckets: Mapping[float, float]


class Watched(Protocol):
    """A server, the pods of a model, or a Prometheus."""

    @property
    def name(self) -> str:
        """Its address, or the model that its pods serve."""
        ...

    @property
    def about(self) -> str:
        """One line of what it is; empty when there is nothing to say."""
        ...

    @property
    def error(self) -> str:
        """What is wrong with it, in words that may come from elsewhere; empty while all of it answers."""
        ...

    @property
    def advice(self) -> str:
        """What to do about that, in Markdown of our own."""
        ...

    @property
    def is_silent(self) -> bool:
        """Whether nothing of it answers now, so that its last figures are old."""
        ...

    @property
    def waiting(self) -> str:
        """Why there is nothing to show yet though nothing is wrong; empty when there is."""
        ...

    def models(self) -> Sequence[ModelKey]:
        """The models that it tells of now."""
        ...

    def lately(self, key: ModelKey, seconds: float) -> Lately | None:
        """The last minute of a model; None before that is known."""
        ...

    def history(self, key: ModelKey, seconds: float, points: int) -> Sequence[tuple[float, Window]]:
        """The last `seconds` of a model in at most so many windows, oldest first, each at its end."""
        ...

    def whole(self, key: ModelKey) -> Whole | None:
        """All since its server started; None where that is not known."""
        ...
