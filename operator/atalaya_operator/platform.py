"""What the operator is told of its surroundings, and what the cluster offers beyond Kubernetes itself.

Read once at start; a change of it may change every pod, and so is an administrator's, not a model's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Self

from atalaya_spec.errors import UsageError

POD_MONITOR, SCALED_OBJECT = "PodMonitor", "ScaledObject"
OPTIONAL_KINDS = {
    POD_MONITOR: "monitoring.coreos.com/v1",
    SCALED_OBJECT: "keda.sh/v1alpha1",
}
_PULL_POLICIES = ("IfNotPresent", "Always", "Never")


@dataclass(frozen=True)
class Platform:
    """Repositories are without a tag: an engine's version is its tag. `offers` are kinds of OPTIONAL_KINDS."""

    openvino_repository: str = "openvino/model_server"
    tensorflow_repository: str = "tensorflow/serving"
    atalaya_repository: str = "atalaya/serving"
    atalaya_version: str = field(default_factory=lambda: version("atalaya"))
    """The tag of our own image; the operator's own version, so that both come from one release."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    prometheus_url: str = ""
    accelerator_groups: tuple[int, ...] = (44, 109, 110, 992)
    """Groups that own /dev/dri and /dev/accel on the nodes: video, and what distributions give to render."""
    nvidia_runtime_class: str = ""
    listing_seconds: int = 300
    """How long after an answer a store is asked again which versions it has."""
    offers: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """From the ATALAYA_* variables that the chart sets. Raises UsageError."""
        plain = cls()
        groups = environment.get("ATALAYA_ACCELERATOR_GROUPS")
        policy = environment.get("ATALAYA_IMAGE_PULL_POLICY", plain.image_pull_policy)
        if policy not in _PULL_POLICIES:
            raise UsageError(f"ATALAYA_IMAGE_PULL_POLICY is {policy!r}; write one of {', '.join(_PULL_POLICIES)}.")
        return replace(
            plain,
            openvino_repository=environment.get("ATALAYA_OPENVINO_REPOSITORY", plain.openvino_repository),
            tensorflow_repository=environment.get("ATALAYA_TENSORFLOW_REPOSITORY", plain.tensorflow_repository),
            atalaya_repository=environment.get("ATALAYA_SERVING_REPOSITORY", plain.atalaya_repository),
            atalaya_version=environment.get("ATALAYA_SERVING_VERSION", plain.atalaya_version),
            image_pull_policy=policy,
            image_pull_secrets=tuple(_words(environment.get("ATALAYA_IMAGE_PULL_SECRETS", ""))),
            prometheus_url=environment.get("ATALAYA_PROMETHEUS_URL", ""),
            accelerator_groups=plain.accelerator_groups if groups is None else tuple(map(_group, _words(groups))),
            nvidia_runtime_class=environment.get("ATALAYA_NVIDIA_RUNTIME_CLASS", ""),
            listing_seconds=_seconds(environment.get("ATALAYA_LISTING_SECONDS", str(plain.listing_seconds))),
        )

    @property
    def serving_image(self) -> str:
        """Our own image, for the engine `atalaya` and for what runs beside the others."""
        return f"{self.atalaya_repository}:{self.atalaya_version}"


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 5 <= int(text) <= 86_400:
        raise UsageError(f"ATALAYA_LISTING_SECONDS is {text!r}; write a number of seconds from 5 to 86400.")
    return int(text)


def _group(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"ATALAYA_ACCELERATOR_GROUPS has {text!r}; write numbers, such as 44,109.")
    return int(text)
