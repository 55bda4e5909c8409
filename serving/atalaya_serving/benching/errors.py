"""What can go wrong in a benchmark. None is worth a retry unchanged, except where it says so.

AtalayaError
├── NoServer             nobody answers, or nothing that we speak does: start it, or correct the address
├── ServerNotStarted     our own server ended or stayed silent at its start
├── CallFailed           one call was refused or lost; under load it is counted, before it ends the benchmark
├── NothingMeasured      every call of a measurement failed
└── (UsageError)
    ├── InvalidPlan      the plan contradicts itself or the model
    └── UnknownModel     the server has no such model
"""

from atalaya_spec.errors import AtalayaError, UsageError


class NoServer(AtalayaError):
    """Nothing answers at an address, or nothing that we speak."""


class ServerNotStarted(AtalayaError):
    """The server that the benchmark started ended at once or does not get ready."""


class CallFailed(AtalayaError):
    """A call without an answer; `code` is gRPC's name of the status, or HTTP's number. A server may say many lines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


class NothingMeasured(AtalayaError):
    """A measurement in which no call succeeded."""


class InvalidPlan(UsageError):
    """What was asked contradicts itself, the model or this machine."""


class UnknownModel(UsageError):
    """The server, or the repository, has no model of that name."""
