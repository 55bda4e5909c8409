"""The InferenceModel v1alpha1: which model to serve, with which engine, on which device, and how it scales.

The dataclasses say all of a field: its name, its type, how it is written, what it means. What fields say of each other
is in `rules.py`; reading files is in `model_files.py`. Fields that are not here are refused.
"""

# ruff: noqa: RUF009 (`described` makes a dataclass field, as `dataclasses.field` does)

from collections.abc import Mapping
from dataclasses import dataclass

from atalaya_spec.field_schemas import (
    CPU_SCHEMA,
    DEVICE_SCHEMA,
    DURATION_SCHEMA,
    IMAGE_SCHEMA,
    MEMORY_SCHEMA,
    PERCENTAGE_SCHEMA,
    QUERY_SCHEMA,
    SECRET_NAME_SCHEMA,
    URI_SCHEMA,
    VERSION_SCHEMA,
)
from atalaya_spec.fields import Choice, ListOf, Scalar, Struct, Texts, WholeNumber, described
from atalaya_spec.names import (
    ModelUri,
    read_device,
    read_image,
    read_model_name,
    read_namespace,
    read_query,
    read_secret_name,
    read_uri,
    read_version,
)
from atalaya_spec.server_versions import BACKENDS, CPU, ENGINES, PROTOCOLS
from atalaya_spec.units import (
    Duration,
    Percentage,
    Quantity,
    read_cpu,
    read_duration,
    read_memory,
    read_percentage,
)

GROUP = "serving.atalaya.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "InferenceModel"

MAX_REPLICAS = 1000
_CPU = Scalar("cores, as `2` or `500m`", read_cpu, CPU_SCHEMA)
_MEMORY = Scalar("bytes, as `512Mi` or `1Gi`", read_memory, MEMORY_SCHEMA)
_WAIT = Scalar("duration, as `2m`", read_duration, DURATION_SCHEMA)
_DURATION = Scalar("duration, as `2ms`", read_duration, DURATION_SCHEMA)


@dataclass(frozen=True)
class AllVersions:
    """`all: {}`: it has no fields."""


@dataclass(frozen=True)
class Versions:
    """Which versions of the model serve. Exactly one field is set."""

    latest: int | None = described(
        "The so many highest versions. Default when none is named: the highest one.",
        WholeNumber(1, 100),
        default=None,
    )
    specific: tuple[int, ...] | None = described(
        "Just these versions.", ListOf(WholeNumber(1, 2**31 - 1), most=100), default=None
    )
    all: AllVersions | None = described("Every version there is: `{}`.", Struct(AllVersions), default=None)


@dataclass(frozen=True)
class Model:
    """Where the model lies and which of its versions serve."""

    uri: ModelUri = described(
        "Folder that holds a folder a version. s3, gs, az, https, pvc or oci; file:// and plain paths only with "
        "`atalaya up`, relative ones to the file.",
        Scalar("URI", read_uri, URI_SCHEMA),
    )
    versions: Versions = described(
        "Which versions serve: exactly one of its fields.", Struct(Versions), default=Versions(latest=1)
    )
    credentials_secret: str | None = described(
        "Secret whose keys are the environment variables that the store's SDK reads.",
        Scalar("name of a Secret", read_secret_name, SECRET_NAME_SCHEMA),
        default=None,
    )


@dataclass(frozen=True)
class ComputeResources:
    """Cores and memory. Accelerators are asked for with `devices`."""

    cpu: Quantity | None = described("Cores of a replica.", _CPU, default=None)
    memory: Quantity | None = described("Memory of a replica.", _MEMORY, default=None)


@dataclass(frozen=True)
class Resources:
    """What a replica is given, and what it may not exceed."""

    requests: ComputeResources = described(
        "What a replica is given.", Struct(ComputeResources), default=ComputeResources()
    )
    limits: ComputeResources = described(
        "What a replica may not exceed.", Struct(ComputeResources), default=ComputeResources()
    )


@dataclass(frozen=True)
class Batching:
    """Requests that wait together and are computed as one."""

    max_size: int = described("Most images in a batch.", WholeNumber(1, 4096))
    timeout: Duration | None = described("Longest a request waits for others.", _DURATION, default=None)


@dataclass(frozen=True)
class QueueTarget:
    """How many requests may wait before another replica is worth its cost."""

    length: int = described("Waiting requests a replica to aim at.", WholeNumber(1, 100_000))
    query: str | None = described(
        "PromQL whose one number is what waits elsewhere, such as in a queue of jobs; it is seen at zero replicas too. "
        "Default: the server's own queue.",
        Scalar("PromQL", read_query, QUERY_SCHEMA),
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Replicas by load. Exactly one of `cpu`, `concurrency`, `latencyP95`, `queue` says what load is."""

    min: int = described("Fewest replicas; 0 needs `queue.query`.", WholeNumber(0, MAX_REPLICAS), default=1)
    max: int = described("Most replicas.", WholeNumber(1, MAX_REPLICAS))
    cpu: Percentage | None = described(
        "Share of the requested cores to aim at.",
        Scalar("percentage, as `70%`", read_percentage, PERCENTAGE_SCHEMA),
        default=None,
    )
    concurrency: int | None = described("Requests in flight a replica to aim at.", WholeNumber(1, 10_000), default=None)
    latency_p95: Duration | None = described(
        "95th percentile of a request's time to stay under.", _DURATION, default=None
    )
    queue: QueueTarget | None = described("Waiting requests to aim at.", Struct(QueueTarget), default=None)
    cooldown: Duration | None = described(
        "With `min: 0`: how long the last replica stays after the last work was seen. Default: 5m.", _WAIT, default=None
    )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is wanted."""

    engine: str = described("The model server.", Choice(ENGINES))
    backend: str | None = described(
        "Library that computes, only with `engine: atalaya`. Default there: openvino.", Choice(BACKENDS), default=None
    )
    engine_version: str | None = described(
        "Version of the model server, in quotes; it decides the image, flags and protocols. "
        "Default: the newest that is known.",
        Scalar("version, as `'2026.3'`", read_version, VERSION_SCHEMA),
        default=None,
    )
    image: str | None = described(
        "Container image in place of the engine's own of that version.",
        Scalar("image", read_image, IMAGE_SCHEMA),
        default=None,
    )
    model: Model = described("What is served.", Struct(Model))
    protocols: tuple[str, ...] | None = described(
        "What clients speak. Default: all that the engine's version speaks. For another, a bridge is added.",
        ListOf(Choice(PROTOCOLS), most=len(PROTOCOLS)),
        default=None,
    )
    devices: tuple[str, ...] = described(
        "In order of preference; all replicas use one class.",
        ListOf(Scalar("device, as `cpu` or `gpu.intel.com/xe`", read_device, DEVICE_SCHEMA), most=16),
        default=(CPU,),
    )
    fall_back_after: Duration | None = described(
        "With several `devices`: how long too few pods may be without a place before the next device is tried. "
        "Default: 2m.",
        _WAIT,
        default=None,
    )
    move_up_after: Duration | None = described(
        "With several `devices`: how long the model stays on one before it moves to a better one that is free. "
        "Default: it stays.",
        _WAIT,
        default=None,
    )
    resources: Resources = described("Cores and memory of a replica.", Struct(Resources), default=Resources())
    batching: Batching | None = described("Batches made on the server. Default: none.", Struct(Batching), default=None)
    replicas: int | None = described(
        "How many, without `scaling`. Default: 1.", WholeNumber(0, MAX_REPLICAS), default=None
    )
    scaling: Scaling | None = described("How many, by load.", Struct(Scaling), default=None)


@dataclass(frozen=True)
class Metadata:
    """What the object is called. Fields that the API server writes are passed over."""

    name: str = described("The model's name, also for clients.", Scalar("name", read_model_name))
    namespace: str | None = described("Where it lives in a cluster.", Scalar("name", read_namespace), default=None)
    labels: Mapping[str, str] | None = described("For selecting.", Texts(), default=None)
    annotations: Mapping[str, str] | None = described("For tools.", Texts(), default=None)


WRITTEN_BY_THE_API_SERVER = frozenset(
    {
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generation",
        "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
    }
)  # fmt: skip


@dataclass(frozen=True)
class InferenceModel:
    """One model that is to be served."""

    api_version: str = described(f"`{API_VERSION}`", Choice((API_VERSION,)))
    kind: str = described(f"`{KIND}`", Choice((KIND,)))
    metadata: Metadata = described("What it is called.", Struct(Metadata, WRITTEN_BY_THE_API_SERVER))
    spec: Spec = described("What is wanted.", Struct(Spec))

    @property
    def name(self) -> str:
        """The model's name, also for clients."""
        return self.metadata.name


INFERENCE_MODEL = Struct(InferenceModel, frozenset({"status"}))
