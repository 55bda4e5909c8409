"""Every kind of object that is made of a model: what is listed to prune, watched to repair, allowed by the chart.

And the kinds that are only looked at: models, and what tells how a model fares.
"""

from dataclasses import dataclass

from atalaya_operator.crd import PLURAL
from atalaya_operator.platform import OPTIONAL_KINDS
from atalaya_spec.inference_model import API_VERSION, KIND


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
    def version(self) -> str:
        """Its version in that group."""
        return self.api_version.rpartition("/")[2]

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
DEFINITIONS = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
"""Looked at, of those that define a kind of ours."""
MODELS = Kind(API_VERSION, KIND, PLURAL)
"""Looked at, all of them; of them only the status is written."""
DEFINED = (MODELS, *(kind for kind in OWNED if kind.is_optional))
"""What CustomResourceDefinitions make: such a kind comes and goes while we run."""
