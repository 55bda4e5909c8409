"""What the operator asks of an engine, and what an engine answers: all that differs from one model server to another.

An engine answers from the tables of its versions in `atalaya_spec`; how a pod is made of the answer is not its concern.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from atalaya_operator.platform import Platform
from atalaya_spec.inference_model import Spec

CONNECTION_SECONDS = 20
"""A gRPC connection ends after so long, so that calls reach new pods and leave those that end."""
RATE_WINDOW = "2m"
"""Over which queries take rates: two readings of a Prometheus that scrapes once a minute, its slowest usual setting."""
CHANNEL_ARGUMENTS = (
    f"grpc.max_connection_age_ms={CONNECTION_SECONDS * 1000},"
    f"grpc.max_connection_age_grace_ms={CONNECTION_SECONDS * 1000}"
)


@dataclass(frozen=True)
class Request:
    """One model server to be written. `path` is the model's folder as the server is told of it."""

    name: str
    spec: Spec
    versions: tuple[int, ...]
    device: str
    path: str
    platform: Platform


@dataclass(frozen=True)
class Server:
    """How one model server is started and asked. An empty `live_path` means grpc.health.v1 on the gRPC port."""

    image: str
    args: tuple[str, ...]
    grpc_port: int
    rest_port: int
    model_path: str
    """Path on the REST port that answers 200 only when the model is loaded."""
    live_path: str
    metrics_path: str
    user_id: int
    is_amd64_only: bool
    config: Mapping[str, str] = field(default_factory=dict)
    """Files it reads, by name, below CONFIG_FOLDER."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One kind of model server."""

    def protocols(self, spec: Spec) -> tuple[str, ...]:
        """What its version speaks by itself."""
        ...

    def schemes(self, spec: Spec) -> tuple[str, ...]:
        """What its version reads a model from by itself, besides folders."""
        ...

    def ports(self, spec: Spec) -> tuple[int, int]:
        """Its gRPC and its REST port."""
        ...

    def server(self, request: Request) -> Server:
        """How it is started for a model."""
        ...

    def signal(self, signal: str, labels: Mapping[str, str]) -> str:
        """PromQL of `concurrency`, `latencyP95` in milliseconds, or `queue`, over all pods with these labels.

        `labels` has `model` and `namespace`. Raises KeyError for what the engine does not measure.
        """
        ...


def selector(**labels: str) -> str:
    """Labels as PromQL selects by them. Names of models and namespaces need no escape."""
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def total(series: str) -> str:
    """A sum that is 0 where nothing was measured yet."""
    return f"sum({series}) or vector(0)"


def p95(buckets: str, to_milliseconds: str) -> str:
    """The 95th percentile of a histogram in milliseconds; 0 while there are no calls.

    Autoscalers count in thousandths of a unit, so that in seconds anything below a millisecond would be nothing.
    """
    return (
        f"(histogram_quantile(0.95, sum by (le) (rate({buckets}[{RATE_WINDOW}]))) {to_milliseconds} >= 0) or vector(0)"
    )
