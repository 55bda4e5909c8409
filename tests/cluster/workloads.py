"""Builders of the plain objects that tests put into a cluster, so that a test says only what matters."""

from collections.abc import Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]


def container(image: str, command: Sequence[str] = (), **fields: Any) -> Manifest:
    made: Manifest = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", **fields}
    return {**made, "command": list(command)} if command else made


def pod(name: str, main: Manifest, **spec: Any) -> Manifest:
    """A pod that runs once and ends without delay when it is deleted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [main], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, **spec},
    }


def deployment(name: str, main: Manifest, replicas: int = 1) -> Manifest:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main], "terminationGracePeriodSeconds": 0}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str, port: int, target_port: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target_port}]},
    }


def cpu_autoscaler(name: str, maximum: int, percent: int) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": maximum,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def toleration(resource: str) -> Mapping[str, str]:
    """For the taint that an accelerator node carries, named as its resource."""
    return {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
