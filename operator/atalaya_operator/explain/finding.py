"""What is told of a model: a reason, the evidence, and what to do where something is to be done."""

from dataclasses import dataclass

from atalaya_operator.explain.reasons import Family, Reason


@dataclass(frozen=True)
class Finding:
    """`cause` tells one cause from another of the same reason, without what differs from pod to pod."""

    why: Reason
    message: str
    next_step: str | None = None
    cause: str = ""

    @property
    def reason(self) -> str:
        """The reason in one word."""
        return self.why.word

    @property
    def is_fault(self) -> bool:
        """Whether somebody should hear of it."""
        return self.why.family != Family.PROGRESS


def finding(why: Reason, message: str, cause: str = "", **names: str) -> Finding:
    """A finding with the reason's own next step, its names put in."""
    return Finding(why, message, why.step.format(**names) or None, cause)
