"""What the tests of a release put into the cluster and read from it: models on a volume, callers, strays."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atalaya_operator.kinds import OWNED
from atalaya_spec.inference_model import API_VERSION
from cluster.access import Cluster
from cluster.layout import CHECKOUT
from cluster.product_images import DASHBOARD, SERVING
from cluster.workloads import container, pod

REPOSITORY = CHECKOUT / "model-repo"
PROTOCOLS = ["kserve-v2", "tensorflow-serving"]
PORTS = {"v2": 9000, "tfs": 8500}


@dataclass(frozen=True)
class Served:
    """A model of one engine."""

    name: str
    engine: str
    folder: str

    def manifest(self, **spec: Any) -> dict[str, Any]:
        location = {"uri": f"pvc://models/{self.folder}", "versions": {"specific": [1]}}
        wanted = {"engine": self.engine, "model": location, "protocols": PROTOCOLS, **spec}
        return {"apiVersion": API_VERSION, "kind": "InferenceModel", "metadata": {"name": self.name}, "spec": wanted}


MODELS = (
    Served("haiti-damage", "atalaya", "haiti-damage"),
    Served("as-ovms", "openvino", "haiti-damage"),
    Served("as-tfs", "tensorflow", "haiti-damage-tf"),
)


def volume(name: str, folder: Path, namespace: str, claim: str = "") -> dict[str, Any]:
    """A folder of the node for a claim in a namespace, by default of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany", "ReadWriteOnce"],
            "storageClassName": "",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"name": claim or name, "namespace": namespace},
        },
    }


def claim(name: str, namespace: str, volume: str = "") -> dict[str, Any]:
    """A claim to a volume, by default of the same name."""
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "",
        "volumeName": volume or name,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def assessing_job(model: str, namespace: str) -> dict[str, Any]:
    """The job that docs/install.md shows, with a model that is there."""
    text = (CHECKOUT / "docs" / "install.md").read_text()
    [shown] = [block for block in re.findall(r"```yaml\n(.+?)```", text, flags=re.DOTALL) if "kind: Job" in block]
    made: dict[str, Any] = yaml.safe_load(shown)
    [container] = made["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f"/{DASHBOARD.reference}")
    assert container["args"] == ["--model", "haiti-damage", "--endpoint", "haiti-damage.default:9000"]
    container["args"] = ["--model", model, "--endpoint", f"{model}.{namespace}:9000"]
    return made


def golden(folder: str) -> tuple[np.ndarray, np.ndarray]:
    kept = np.load(REPOSITORY / folder / "1" / "golden.npz")
    return kept["inputs"], kept["outputs"]


def calling_pod(name: str, script: tuple[str, ...]) -> dict[str, Any]:
    """A pod of our serving image that runs a script of ours, with the models at hand."""
    calling = container(
        SERVING.reference,
        imagePullPolicy="Always",
        command=("/opt/atalaya/bin/python", "-c", *script),
        volumeMounts=[{"name": "models", "mountPath": "/models", "readOnly": True}],
        securityContext={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    )
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return pod(name, calling, volumes=[volume], securityContext=security)


def pods(cluster: Cluster, place: str, model: str) -> list[dict[str, Any]]:
    listed = cluster.kubectl("get", "pods", "-n", place, "-l", f"serving.atalaya.dev/model={model}", "-o", "json")
    return list(json.loads(listed)["items"])


def plural(kind: str) -> str:
    return next(f"{one.plural}.{one.group}".rstrip(".") for one in OWNED if one.name == kind)


def stray(api_version: str, kind: str, owner: str, model: str = "by-cpu") -> dict[str, Any]:
    """An object that belongs to a model which does not want it."""
    labels = {"app": "stray"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "stray"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    specs: dict[str, dict[str, Any]] = {
        "NetworkPolicy": {"podSelector": {"matchLabels": labels}},
        "Service": {"ports": [{"port": 80}], "selector": labels},
        "Deployment": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        "PodDisruptionBudget": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        "HorizontalPodAutoscaler": {"scaleTargetRef": target, "maxReplicas": 2},
        "ScaledObject": {
            "scaleTargetRef": {"name": "stray"},
            "triggers": [{"type": "cpu", "metadata": {"value": "1"}}],
        },
        "PodMonitor": {"selector": {"matchLabels": labels}, "podMetricsEndpoints": []},
    }
    metadata = {
        "name": "stray",
        "labels": {"serving.atalaya.dev/model": model},
        "ownerReferences": [
            {"apiVersion": API_VERSION, "kind": "InferenceModel", "name": model, "uid": owner, "controller": True}
        ],
    }
    made = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return {**made, "spec": specs[kind]} if kind in specs else made
