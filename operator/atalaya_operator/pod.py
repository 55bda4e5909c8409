"""The pod of a model server, from what its engine answers: restricted, ready when it has its model, drained at its end.

The same for all engines; what differs comes in as a `Server`.
"""

from dataclasses import dataclass

from atalaya_operator import names
from atalaya_operator.bridge import Bridge
from atalaya_operator.devices import Placement
from atalaya_operator.engines.base import CONNECTION_SECONDS, Server
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Decisions, Manifest
from atalaya_operator.storage import Storage
from atalaya_spec.inference_model import InferenceModel
from atalaya_spec.inference_model import Resources as WantedResources

# A connection may live a tenth longer than it is told to; after that no client calls a pod that left its Service.
DRAIN_SECONDS = CONNECTION_SECONDS + 5
GRACE_SECONDS = DRAIN_SECONDS + 30
STARTUP_SECONDS = 600
_TEMPORARY = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of the pod's own
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass(frozen=True)
class PodParts:
    """All that a pod is made of."""

    model: InferenceModel
    decisions: Decisions
    platform: Platform
    server: Server
    storage: Storage
    placement: Placement
    bridge: Bridge | None


def pod_template(parts: PodParts, revision: str) -> Manifest:
    """The template of a revision's Deployment; `revision` is its digest, which the template itself decides."""
    model, server, platform = parts.model, parts.server, parts.platform
    spec: Manifest = {
        "serviceAccountName": names.service_account_name(model.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(server.user_id, parts.placement.groups),
        "containers": _containers(parts),
        "volumes": _volumes(parts, revision),
        "topologySpreadConstraints": [_spread(names.selector(model.name, revision))],
        **parts.placement.pod,
    }
    if parts.storage.fetch:
        spec["initContainers"] = [ours(parts.storage.fetch, platform)]
    if server.is_amd64_only:
        spec["nodeSelector"] = {"kubernetes.io/arch": "amd64"}
    if platform.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in platform.image_pull_secrets]
    metadata = {"labels": names.labels(model, revision), "annotations": _annotations(parts)}
    return {"metadata": metadata, "spec": spec}


def _annotations(parts: PodParts) -> dict[str, str]:
    """For a Prometheus without its operator, and the digests, so that other files of a version are another revision."""
    digests = ",".join(f"{one.number}={one.digest}" for one in parts.decisions.versions if one.digest)
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(parts.server.rest_port),
        "prometheus.io/path": parts.server.metrics_path,
    } | ({names.DIGEST_ANNOTATION: digests} if digests else {})


def _containers(parts: PodParts) -> list[Manifest]:
    containers = [ours(_server(parts), parts.platform)]
    if parts.bridge:
        containers.append(ours(parts.bridge.container(parts.model.name, parts.platform), parts.platform))
    return [container | {"lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}} for container in containers]


def _server(parts: PodParts) -> Manifest:
    server, storage = parts.server, parts.storage.server
    model_is_loaded = {"httpGet": {"path": server.model_path, "port": names.REST_PORT}}
    alive = {"httpGet": {"path": server.live_path, "port": names.REST_PORT}}
    container: Manifest = {
        "name": names.SERVER_CONTAINER,
        "image": server.image,
        "args": list(server.args),
        "ports": [
            {"name": names.GRPC_PORT, "containerPort": server.grpc_port, "protocol": "TCP"},
            {"name": names.REST_PORT, "containerPort": server.rest_port, "protocol": "TCP"},
        ],
        "startupProbe": {**model_is_loaded, "periodSeconds": 2, "timeoutSeconds": 2,
                         "failureThreshold": STARTUP_SECONDS // 2},
        "readinessProbe": {**model_is_loaded, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**(alive if server.live_path else {"grpc": {"port": server.grpc_port}}),
                          "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
        "resources": _resources(parts.model.spec.resources, parts.placement),
        **storage,
    }  # fmt: skip
    environment = [{"name": name, "value": value} for name, value in server.environment.items()]
    if environment:
        container["env"] = [*container.get("env", ()), *environment]
    if server.config:
        mount = {"name": "config", "mountPath": names.CONFIG_FOLDER, "readOnly": True}
        container["volumeMounts"] = [*container.get("volumeMounts", ()), mount]
    return container


def ours(container: Manifest, platform: Platform) -> Manifest:
    """What every container of ours has: restricted, a place for temporary files, errors told in the pod's status."""
    return {
        **container,
        # Kubernetes puts variables in for $(NAME), which no argument of ours means.
        "args": [argument.replace("$", "$$") for argument in container["args"]],
        "imagePullPolicy": platform.image_pull_policy,
        "securityContext": _RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*container.get("volumeMounts", ()), _TEMPORARY],
    }


def _resources(wanted: WantedResources, placement: Placement) -> Manifest:
    asked = {
        part: {name: str(amount) for name in ("cpu", "memory") if (amount := getattr(given, name))}
        for part, given in (("requests", wanted.requests), ("limits", wanted.limits))
    }
    asked["limits"] |= placement.limits
    return {part: amounts for part, amounts in asked.items() if amounts}


def _volumes(parts: PodParts, revision: str) -> list[Manifest]:
    volumes = [*parts.storage.volumes, {"name": "tmp", "emptyDir": {}}]
    if parts.server.config:
        name = names.revision_name(parts.model.name, revision)
        volumes.append({"name": "config", "configMap": {"name": name}})
    return volumes


def pod_security(user_id: int, groups: tuple[int, ...]) -> Manifest:
    """A pod's: one user for all containers, so that what is fetched is read."""
    security: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": user_id,
        "runAsGroup": user_id,
        "fsGroup": user_id,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return security | ({"supplementalGroups": list(groups)} if groups else {})


def _spread(labels: dict[str, str]) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
