"""What owns a revision's replicas: Kubernetes' own autoscaler by CPU, KEDA by what Prometheus measures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from atalaya_operator import names
from atalaya_operator.engines import BY_NAME
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import OPTIONAL_KINDS, SCALED_OBJECT, Platform
from atalaya_operator.revision import Manifest, Revision
from atalaya_spec.inference_model import InferenceModel, Scaling
from atalaya_spec.problems import Problem

SCALERS = ("HorizontalPodAutoscaler", SCALED_OBJECT)
POLLING_SECONDS = 10
"""How often KEDA looks whether a model at zero has work: its own 30 s would delay every return."""
COOLDOWN_SECONDS = 300.0
_MOST_SECONDS = 2**31 - 1


def autoscaler(subject: Subject, revision: Revision, platform: Platform) -> Manifest | None:
    """None without `scaling`, and where the cluster lacks what it takes; `lacking` says what."""
    scaling = subject.model.spec.scaling
    if scaling is None or any(lacking(subject.model, platform)):
        return None
    least, most = bounds(scaling, revision.most_replicas)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision.name}
    metadata = subject.metadata(revision.name, revision.digest)
    if scaling.cpu:
        spec = {
            "scaleTargetRef": target,
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [_cpu_metric(scaling.cpu.percent)],
        }
        kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        return {**kind, "metadata": metadata, "spec": spec}
    spec = {
        "scaleTargetRef": target,
        "minReplicaCount": least,
        "maxReplicaCount": most,
        **({} if least else _zero(scaling)),
        "triggers": [_trigger(_measured(subject, scaling), platform.prometheus_url)],
    }
    kind = {"apiVersion": OPTIONAL_KINDS[SCALED_OBJECT], "kind": SCALED_OBJECT}
    return {**kind, "metadata": metadata, "spec": spec}


def bounds(scaling: Scaling, cap: int | None) -> tuple[int, int]:
    """The fewest and the most replicas, under a cap of what the cluster has free."""
    most = min(scaling.max, cap or scaling.max)
    return min(scaling.min, most), most


def lacking(model: InferenceModel, platform: Platform) -> Iterator[Problem]:
    """What the cluster must have for a model's scaling, and has not."""
    scaling = model.spec.scaling
    if scaling is None or scaling.cpu:
        return
    path = f"spec.scaling.{_signal(scaling)}"
    if SCALED_OBJECT not in platform.offers:
        yield Problem(path, "it takes KEDA, and the cluster has no ScaledObject", "install KEDA, or scale by cpu")
    if not platform.prometheus_url:
        yield Problem(path, "it takes Prometheus, and the operator was not told where it is",
                      "set prometheus.url in the chart's values, or scale by cpu")  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    query: str
    threshold: float
    is_shared: bool
    """Whether more replicas share what is measured; a latency is nobody's share."""


def _signal(scaling: Scaling) -> str:
    return "concurrency" if scaling.concurrency else "queue" if scaling.queue else "latencyP95"


def _measured(subject: Subject, scaling: Scaling) -> _Measured:
    labels = {"model": subject.model.name, "namespace": subject.namespace}
    engine, signal = BY_NAME[subject.model.spec.engine], _signal(scaling)
    if scaling.queue:
        return _Measured(scaling.queue.query or engine.signal(signal, labels), scaling.queue.length, True)
    if scaling.concurrency:
        return _Measured(engine.signal(signal, labels), scaling.concurrency, True)
    assert scaling.latency_p95  # exactly one signal is set: the rules say so
    return _Measured(engine.signal(signal, labels), scaling.latency_p95.seconds * 1000, False)


def _trigger(measured: _Measured, prometheus_url: str) -> Manifest:
    return {
        "type": "prometheus",
        "metricType": "AverageValue" if measured.is_shared else "Value",
        "metadata": {
            "serverAddress": prometheus_url,
            "query": measured.query,
            "threshold": f"{measured.threshold:g}",
        },
    }


def _zero(scaling: Scaling) -> Manifest:
    """How soon the last replica goes and the first comes; from one to many Kubernetes' own autoscaler decides."""
    cooldown = scaling.cooldown.seconds if scaling.cooldown else COOLDOWN_SECONDS
    return {"pollingInterval": POLLING_SECONDS, "cooldownPeriod": min(math.ceil(cooldown), _MOST_SECONDS)}


def _cpu_metric(percent: int) -> Manifest:
    """Of the server's own cores: what stands beside it in the pod has another load."""
    target = {"type": "Utilization", "averageUtilization": percent}
    of = {"name": "cpu", "container": names.SERVER_CONTAINER, "target": target}
    return {"type": "ContainerResource", "containerResource": of}
