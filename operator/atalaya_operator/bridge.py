"""Which protocols a pod answers, on which ports, and the bridge container for those its server does not speak.

Clients meet the same port for a protocol whatever engine and version stand behind it: 9000 and 8000 for KServe v2, 8500
and 8501 for TensorFlow Serving. So a change of the engine, or a bridge that comes or goes, changes no client.
"""

from dataclasses import dataclass
from typing import Any

from atalaya_operator.engines.base import Engine
from atalaya_operator.names import BRIDGE_CONTAINER, BRIDGE_GRPC_PORT, BRIDGE_REST_PORT
from atalaya_operator.platform import Platform
from atalaya_operator.revision import ServicePort
from atalaya_spec.inference_model import Spec
from atalaya_spec.model_server import KSERVE_V2, TENSORFLOW_SERVING
from atalaya_spec.server_versions import PROTOCOLS

PORTS = {KSERVE_V2: (9000, 8000), TENSORFLOW_SERVING: (8500, 8501)}
_PORT_PREFIX = {KSERVE_V2: "kserve", TENSORFLOW_SERVING: "tfs"}
_BRIDGE_WORD = {KSERVE_V2: "v2", TENSORFLOW_SERVING: "tfs"}
BRIDGE_METRICS_PATH = "/metrics"
BRIDGE_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


@dataclass(frozen=True)
class Bridge:
    """A container that answers `protocol` by calling the server beside it in `upstream`."""

    protocol: str
    upstream: str
    upstream_port: int

    @property
    def ports(self) -> tuple[int, int]:
        """Its gRPC and its REST port."""
        return PORTS[self.protocol]

    def container(self, model: str, platform: Platform) -> dict[str, Any]:
        """The container, without what all our containers have in common."""
        grpc, rest = self.ports
        flags = {
            "from": _BRIDGE_WORD[self.protocol],
            "to": _BRIDGE_WORD[self.upstream],
            "upstream": f"127.0.0.1:{self.upstream_port}",
            "port": str(grpc),
            "rest_port": str(rest),
            "grpc_bind_address": "0.0.0.0",  # noqa: S104 - a pod's own network
            "rest_bind_address": "0.0.0.0",  # noqa: S104
            "model_name": model,  # what must serve before the bridge is ready
        }
        ready, live = (
            {"httpGet": {"path": f"/v2/health/{what}", "port": BRIDGE_REST_PORT}} for what in ("ready", "live")
        )
        return {
            "name": BRIDGE_CONTAINER,
            "image": platform.serving_image,
            "args": ["bridge", *(f"--{flag}={value}" for flag, value in flags.items())],
            "ports": [
                {"name": BRIDGE_GRPC_PORT, "containerPort": grpc, "protocol": "TCP"},
                {"name": BRIDGE_REST_PORT, "containerPort": rest, "protocol": "TCP"},
            ],
            "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
            "livenessProbe": {
                **live,
                "initialDelaySeconds": 10,
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            "resources": BRIDGE_RESOURCES,
        }


def wanted_protocols(spec: Spec, engine: Engine) -> tuple[str, ...]:
    """What clients are to find: what the spec names, else all that the engine's version speaks; in one order."""
    wanted = spec.protocols or engine.protocols(spec)
    return tuple(protocol for protocol in PROTOCOLS if protocol in wanted)


def bridge(spec: Spec, engine: Engine) -> Bridge | None:
    """The bridge to the one protocol that is wanted and not spoken; None when there is none."""
    own = engine.protocols(spec)
    lacking = [protocol for protocol in wanted_protocols(spec, engine) if protocol not in own]
    return Bridge(lacking[0], own[0], engine.ports(spec)[0]) if lacking else None


def service_ports(spec: Spec, engine: Engine) -> tuple[ServicePort, ...]:
    """The ports that clients call, and where in the pod they are answered."""
    ports = []
    for protocol in wanted_protocols(spec, engine):
        targets = engine.ports(spec) if protocol in engine.protocols(spec) else PORTS[protocol]
        for kind, port, target in zip(("grpc", "http"), PORTS[protocol], targets, strict=True):
            ports.append(ServicePort(f"{_PORT_PREFIX[protocol]}-{kind}", port, target, kind == "grpc"))
    return tuple(ports)
