"""What can go wrong between the operator and a cluster.

AtalayaError
├── ClusterUnavailable   no cluster is known or answers: trying again later may help
└── ObjectRefused        the API server will not have an object as it is: trying again unchanged cannot help
"""

from atalaya_spec.errors import AtalayaError


class ClusterUnavailable(AtalayaError):
    """There is no kubeconfig, or what it names does not answer."""


class ObjectRefused(AtalayaError):
    """The API server refused an object; the message is its own."""
