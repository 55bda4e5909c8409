"""All that an explanation is made from: one model, its target revision, what is seen of it, what was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atalaya_operator import names
from atalaya_operator.explain.pods import Container, Pod, pod
from atalaya_operator.observed import Seen
from atalaya_operator.reconcile import Target
from atalaya_operator.revision import Manifest

Nodes = Mapping[str, Manifest]


@dataclass(frozen=True)
class Warned:
    """A warning that Kubernetes told of a pod."""

    reason: str
    message: str
    at: str


@dataclass(frozen=True)
class Asked:
    """What was asked for: warnings by the pod's uid, ends of logs by the pod's name and the container's."""

    warnings: Mapping[str, tuple[Warned, ...]] = field(default_factory=dict)
    logs: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """`pods` are those of the revision that the spec asks for."""

    target: Target
    deployment: Manifest | None
    pods: tuple[Pod, ...]
    nodes: Nodes
    now: str
    asked: Asked = Asked()

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.target.subject.model.spec.engine

    @property
    def uri(self) -> str:
        """Where the spec says the model lies."""
        return self.target.subject.model.spec.model.uri.text

    @property
    def namespace(self) -> str:
        """Where all of it lives."""
        return self.target.subject.namespace

    @property
    def living(self) -> tuple[Pod, ...]:
        """The pods that are to stay."""
        return tuple(one for one in self.pods if not one.is_leaving and one.phase not in ("Failed", "Succeeded"))

    def words(self, one: Pod, container: Container | None = None) -> dict[str, str]:
        """What the next steps name."""
        spec, revision = self.target.subject.model.spec, self.target.revision
        secret = spec.model.credentials_secret
        is_ours = container is not None and container.name != names.SERVER_CONTAINER
        field_of_image = "spec.image" if spec.image else "spec.engineVersion or spec.image"
        return {
            "namespace": self.namespace,
            "pod": f"{one.name} --namespace {self.namespace}",
            "node": one.node,
            "container": container.name if container else names.SERVER_CONTAINER,
            "image": container.image if container else revision.image,
            "image_field": "the operator's ATALAYA_SERVING_REPOSITORY" if is_ours else field_of_image,
            "memory_field": "the operator's own limit of this container" if is_ours else "spec.resources.limits.memory",
            "memory": (container.memory_limit if container else "") or "not set: the node itself ran out of memory",
            "uri": self.uri,
            "secret": f"Secret {secret}" if secret else "a Secret",
            "device": revision.device,
            "retry": f"it is tried again within minutes, at once after kubectl delete pod {one.name}"
            f" --namespace {self.namespace}",
        }


def case(target: Target, seen: Seen, deployment: Manifest | None, nodes: Nodes, now: str) -> Case:
    """What is watched, before anything is asked for."""
    digest = target.revision.digest
    pods = sorted((pod(one) for one in seen.pods), key=lambda one: one.name)
    return Case(target, deployment, tuple(one for one in pods if one.revision == digest), nodes, now)
