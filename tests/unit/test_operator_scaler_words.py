"""What the condition `Autoscaling` says of a scaler that is missing, fails, or that nobody looks at."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from atalaya_operator.scaler_words import BLIND_SECONDS, IGNORED_SECONDS
from builders_operator import PLAIN, WITH_MONITORING
from builders_reconcile import FakeCluster, Manifest, model

BY_CPU: dict[str, Any] = {"resources": {"requests": {"cpu": 1}}, "scaling": {"max": 5, "cpu": "70%"}}
BY_KEDA: dict[str, Any] = {"scaling": {"max": 3, "concurrency": 4}}
BLIND = {
    "type": "ScalingActive",
    "status": "False",
    "reason": "FailedGetContainerResourceMetric",
    "message": "unable to get metrics: the server could not find the requested resource (get pods.metrics.k8s.io)",
}


def later(cluster: FakeCluster, seconds: float) -> str:
    return (datetime.fromisoformat(cluster.now) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def say(cluster: FakeCluster, kind: str, *told: Manifest) -> str:
    """The scaler's own conditions. Answers its name."""
    (name,) = cluster.names(kind)
    conditions = [{"lastTransitionTime": cluster.now, **one} for one in told]
    cluster.edit(kind, name, lambda live: live.update(status={"conditions": conditions}))
    return name


def test_a_scaler_that_the_cluster_lacks_is_told() -> None:
    cluster = FakeCluster(model(scaling={"max": 3, "concurrency": 4}))
    cluster.settle(PLAIN)
    assert cluster.condition("Autoscaling")["status"] == "False"
    assert "KEDA" in cluster.condition("Autoscaling")["message"]
    assert cluster.status["reason"] == "Serving"


def test_a_scaler_that_keda_says_fails_is_told_until_it_works_again() -> None:
    cluster = FakeCluster(model(scaling={"max": 3, "queue": {"length": 8, "query": "up"}}))
    cluster.settle(WITH_MONITORING)
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"
    (name,) = cluster.names("ScaledObject")
    failed = {"type": "Ready", "status": "False", "reason": "TriggerError", "message": "Triggers do not work"}
    cluster.edit("ScaledObject", name, lambda live: live.update(status={"conditions": [failed]}))
    cluster.reconcile(WITH_MONITORING)
    told = cluster.condition("Autoscaling")
    assert (told["status"], told["reason"]) == ("False", "ScalerFailing")
    assert f"Triggers do not work. See kubectl describe scaledobject {name} --namespace default" in told["message"]
    assert cluster.status["reason"] == "Serving"
    cluster.edit("ScaledObject", name, lambda live: live.update(status={"conditions": [{**failed, "status": "True"}]}))
    cluster.reconcile(WITH_MONITORING)
    assert cluster.condition("Autoscaling")["status"] == "True"


def test_kubernetes_own_autoscaler_that_lacks_figures_is_told_when_that_lasts() -> None:
    cluster = FakeCluster(model(**BY_CPU))
    cluster.settle()
    name = say(cluster, "HorizontalPodAutoscaler", {"type": "AbleToScale", "status": "True"}, BLIND)
    assert cluster.reconcile(now=later(cluster, 20)) == BLIND_SECONDS - 20
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"
    assert cluster.reconcile(now=later(cluster, BLIND_SECONDS)) is None
    told = cluster.condition("Autoscaling")
    assert (told["status"], told["reason"]) == ("False", "ScalerFailing")
    assert "could not find the requested resource (get pods.metrics.k8s.io)" in told["message"]
    assert f"kubectl describe horizontalpodautoscaler {name} --namespace default" in told["message"]
    assert "kubectl top pods --namespace default" in told["message"]
    assert cluster.condition("Ready")["status"] == "True"
    say(cluster, "HorizontalPodAutoscaler", {**BLIND, "status": "True"})
    assert cluster.reconcile(now=later(cluster, BLIND_SECONDS + 1)) is None
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"


def test_an_autoscaler_that_rests_at_zero_replicas_does_not_fail() -> None:
    cluster = FakeCluster(model(**BY_CPU))
    cluster.settle()
    say(cluster, "HorizontalPodAutoscaler", {**BLIND, "reason": "ScalingDisabled"})
    assert cluster.reconcile(now=later(cluster, 3600)) is None
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"


@pytest.mark.parametrize(
    ("spec", "platform", "kind", "who"),
    [
        (BY_KEDA, WITH_MONITORING, "ScaledObject", "KEDA's operator"),
        (BY_CPU, PLAIN, "HorizontalPodAutoscaler", "kube-controller-manager"),
    ],
)
def test_a_scaler_that_nobody_looks_at_is_told(spec: dict[str, Any], platform: Any, kind: str, who: str) -> None:
    cluster = FakeCluster(model(**spec))
    cluster.settle(platform)
    assert cluster.reconcile(platform, later(cluster, 10)) == IGNORED_SECONDS - 10
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"
    assert cluster.reconcile(platform, later(cluster, IGNORED_SECONDS)) is None
    told = cluster.condition("Autoscaling")
    assert (told["status"], told["reason"]) == ("False", "ScalerIgnored")
    (name,) = cluster.names(kind)
    assert f"{kind} {name} since it was made: {who} is not running" in told["message"]
    say(cluster, kind, {"type": "Ready", "status": "True"})
    assert cluster.reconcile(platform, later(cluster, IGNORED_SECONDS + 1)) is None
    assert cluster.condition("Autoscaling")["reason"] == "ScalerMade"
