"""What each model server measures of its models, and under which names: one table for autoscalers and for people.

The operator's queries and the dashboard's pages read it; who adds an engine adds a row. The names are the originals',
as `ovms.py`, `tfs.py` and docs/serve.md list them all. An empty name is a signal that the server does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OK = "OK"
FAILED = "FAILED"
"""How a request ended that did not end well, where the server does not tell more."""


@dataclass(frozen=True)
class Requests:
    """A counter of requests. `code_label` tells how each ended; without one, all of them ended as `code`."""

    name: str
    code_label: str = ""
    code: str = OK


@dataclass(frozen=True)
class Signals:
    """The names of one model server. Counters are as a scrape shows them; histograms without their `_bucket`."""

    engine: str
    """As `spec.engine` names it."""
    title: str
    """For people."""
    model_label: str
    version_label: str
    """Empty where a server tells all versions of a model together."""
    latency: str
    """Histogram of whole requests on the server."""
    latency_unit_seconds: float
    requests: tuple[Requests, ...]
    prefix: str
    """What every name of this server begins with."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that labels of `requests` must have to be inferences: probes are counted too."""
    images: str = ""
    """Counter of rows computed."""
    in_flight: str = ""
    """Gauge of calls that wait or compute."""
    queue: str = ""
    """Gauge of calls that wait."""
    capacity: str = ""
    """Gauge of how many calls compute at a time: where there is no `queue`, those in flight beyond it wait."""
    ready: str = ""
    """Gauge, 1 where a version serves."""


ATALAYA = Signals(
    engine="atalaya",
    title="Atalaya's server",
    model_label="model",
    version_label="version",
    latency="atalaya_request_seconds",
    latency_unit_seconds=1.0,
    requests=(Requests("atalaya_requests_total", code_label="code"),),
    prefix="atalaya_",
    images="atalaya_inferences_total",
    in_flight="atalaya_requests_in_flight",
    queue="atalaya_queue_depth",
    ready="atalaya_model_ready",
)
OPENVINO = Signals(
    engine="openvino",
    title="OpenVINO Model Server",
    model_label="name",
    version_label="version",
    latency="ovms_request_time_us",
    latency_unit_seconds=1e-6,
    requests=(Requests("ovms_requests_success"), Requests("ovms_requests_fail", code=FAILED)),
    prefix="ovms_",
    only={"method": ("ModelInfer", "ModelInferStream", "Predict")},
    in_flight="ovms_current_requests",
    capacity="ovms_streams",
)
TENSORFLOW = Signals(
    engine="tensorflow",
    title="TensorFlow Serving",
    model_label="model_name",
    version_label="",
    latency=":tensorflow:serving:request_latency",
    latency_unit_seconds=1e-6,
    requests=(Requests(":tensorflow:serving:request_count", code_label="status"),),
    prefix=":tensorflow:",
)
ALL = (ATALAYA, OPENVINO, TENSORFLOW)
BY_ENGINE: Mapping[str, Signals] = {one.engine: one for one in ALL}
