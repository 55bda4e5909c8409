"""What can go wrong between the operator and a cluster.

AtalayaError
├── ClusterUnavailable   no cluster is known or answers: trying again later may help
├── ObjectRefused        the API server will not have an object as it is: trying again unchanged cannot help
└── TryAgain             the API server is busy, or had another change first: the same call helps later
"""

from atalaya_spec.errors import AtalayaError


class ClusterUnavailable(AtalayaError):
    """There is no kubeconfig, or what it names does not answer."""


class ObjectRefused(AtalayaError):
    """The API server refused an object; the message is its own."""


class TryAgain(AtalayaError):
    """A call that can be made again unchanged. `after_seconds` is the API server's wish; None when it has none."""

    def __init__(self, message: str, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds
