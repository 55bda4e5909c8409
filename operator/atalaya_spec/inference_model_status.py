"""The status of an InferenceModel: what the operator says of it, and a person reads.

Described as the spec is, so that the CRD comes from it. It decides nothing: reasons and conditions are the operator's.
"""

# ruff: noqa: RUF009 (`described` makes a dataclass field, as `dataclasses.field` does)

from dataclasses import dataclass

from atalaya_spec.fields import Choice, ListOf, Scalar, Struct, WholeNumber, described

_COUNT = WholeNumber(0, 2**31 - 1)
_GENERATION = WholeNumber(0, 2**53 - 1)  # past it an API server, which reads bounds as floats, refuses every number
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def _text(written: str = "text", longest: int = 1024) -> Scalar:
    return Scalar(written, str, {"type": "string", "maxLength": longest})


@dataclass(frozen=True)
class Condition:
    """One condition in Kubernetes' standard shape."""

    type: str = described("What it is about, such as `Ready`.", _text(longest=316))
    status: str = described("Whether it holds.", Choice((TRUE, FALSE, UNKNOWN)))
    reason: str = described("Why, in one word.", _text(longest=1024))
    message: str = described("Why, for people.", _text(longest=32768))
    last_transition_time: str = described(
        "When `status` changed last.", Scalar("time", str, {"type": "string", "format": "date-time"})
    )
    observed_generation: int | None = described("Generation that it speaks of.", _GENERATION, default=None)


@dataclass(frozen=True)
class RevisionStatus:
    """One revision: a Deployment of its own, named `<model>-<digest>`."""

    name: str = described("Name of its Deployment.", _text("name", 63))
    version: str | None = described("Versions of the model that it serves.", _text(longest=2048), default=None)
    digest: str | None = described(
        "Digests of the versions' files, where they are known.", _text(longest=8192), default=None
    )
    image: str | None = described("Image of the model server.", _text("image"), default=None)
    device: str | None = described("Device class that it computes on.", _text("device", 63), default=None)
    verdict: str | None = described("What became of it, in one word.", _text(longest=64), default=None)


@dataclass(frozen=True)
class ResolvedVersion:
    """One version that `latest` or `all` means."""

    number: int = described("Its number.", WholeNumber(1, 2**31 - 1))
    digest: str | None = described(
        "Digest of its files; `files:…` is a mark of the store's own tags.", _text(longest=128), default=None
    )


@dataclass(frozen=True)
class Resolved:
    """What the store answered last when it was asked which versions it has."""

    question: str = described("Mark of the spec's fields that it was asked for.", _text("mark", 64))
    versions: tuple[ResolvedVersion, ...] = described(
        "The versions that are to serve.", ListOf(Struct(ResolvedVersion), most=100)
    )


@dataclass(frozen=True)
class Endpoints:
    """Addresses within the cluster."""

    kserve_v2: str | None = described("gRPC of KServe v2.", _text("host:port"), default=None)
    tensorflow_serving: str | None = described("gRPC of TensorFlow Serving.", _text("host:port"), default=None)
    metrics: str | None = described(
        "Where Prometheus scrapes each pod: port and path.", _text("port and path"), default=None
    )


@dataclass(frozen=True)
class Status:
    """All that is told of one InferenceModel."""

    observed_generation: int | None = described("Generation that this status speaks of.", _GENERATION, default=None)
    replicas: int | None = described("Pods there are.", _COUNT, default=None)
    ready_replicas: int | None = described("Pods that answer.", _COUNT, default=None)
    ready: str | None = described("Pods that answer, of those wanted, as `2/2`.", _text(longest=32), default=None)
    selector: str | None = described("Label selector of the pods, for autoscalers.", _text(), default=None)
    device: str | None = described("Device class that the serving revision computes on.", _text("device"), default=None)
    version: str | None = described(
        "Versions of the model that serve, as `3` or `3,4`.", _text(longest=2048), default=None
    )
    reason: str | None = described("Why it is as it is, in one word.", _text(longest=128), default=None)
    message: str | None = described("The evidence for the reason.", _text(longest=4096), default=None)
    next_step: str | None = described("What to do about it.", _text(longest=4096), default=None)
    conditions: tuple[Condition, ...] | None = described(
        "Conditions in the standard shape.", ListOf(Struct(Condition), most=16), default=None
    )
    revisions: tuple[RevisionStatus, ...] | None = described(
        "The revisions there are, newest first.", ListOf(Struct(RevisionStatus), most=16), default=None
    )
    resolved: Resolved | None = described("Which versions `latest` or `all` means now.", Struct(Resolved), default=None)
    endpoints: Endpoints | None = described("Where clients find it.", Struct(Endpoints), default=None)
