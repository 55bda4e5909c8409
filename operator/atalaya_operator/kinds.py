"""Every kind of object that is made of a model: what is listed to prune, watched to repair, allowed by the chart.

And the two kinds that are only looked at, to know how a model fares.
"""

from dataclasses import dataclass

from atalaya_operator.platform import OPTIONAL_KINDS


@dataclass(frozen=True)
class Kind:
    """A kind, and its name in a path and in a role."""

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        """Its API group; empty for the core."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    @property
    def is_optional(self) -> bool:
        """Whether a cluster may lack it."""
        return self.name in OPTIONAL_KINDS


OWNED = (
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("v1", "Service", "services"),
    Kind("apps/v1", "Deployment", "deployments"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind(OPTIONAL_KINDS["ScaledObject"], "ScaledObject", "scaledobjects"),
    Kind(OPTIONAL_KINDS["PodMonitor"], "PodMonitor", "podmonitors"),
)

PODS = Kind("v1", "Pod", "pods")
"""Looked at, of those with our label."""
NODES = Kind("v1", "Node", "nodes")
"""Looked at, all of them."""
