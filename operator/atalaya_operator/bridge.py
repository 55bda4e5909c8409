"""Which protocols a pod answers, on which ports, and the bridge container for those its server does not speak.

Clients meet the same port for a protocol whatever engine and version stand behind it: 9000 and 8000 for KServe v2, 8500
and 8501 for TensorFlow Serving. So a change of the engine, or a bridge that comes or goes, changes no client.
"""

from dataclasses import dataclass
from typing import Any

from atalaya_operator.engines.base import CHANNEL_ARGUMENTS, Engine
from atalaya_operator.names import BRIDGE_CONTAINER, BRIDGE_GRPC_PORT, BRIDGE_REST_PORT
from atalaya_operator.platform import Platform
from atalaya_operator.revision import ServicePort
from atalaya_spec.inference_model import Spec
from atalaya_spec.model_server import KSERVE_V2, TENSORFLOW_SERVING
from atalaya_spec.server_versions import PROTOCOLS

PORTS = {KSERVE_V2: (9000, 8000), TENSORFLOW_SERVING: (8500, 8501)}
_PORT_PREFIX = {KSERVE_V2: "kserve", TENSORFLOW_SERVING: "tfs"}
_MODEL_PATH = {KSERVE_V2: "/v2/models/{model}/ready", TENSORFLOW_SERVING: "/v1/models/{model}/metadata"}
BRIDGE_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


@dataclass(frozen=True)
class Bridge:
    """A container that answers `protocol` by calling the server beside it in `upstream`."""

    protocol: str
    upstream: str
    upstream_ports: tuple[int, int]

    @property
    def ports(self) -> tuple[int, int]:
        """Its gRPC and its REST port."""
        return PORTS[self.protocol]

    def container(self, model: str, platform: Platform) -> dict[str, Any]:
        """The container, without what all our containers have in common."""
        grpc, rest = self.ports
        upstream_grpc, upstream_rest = self.upstream_ports
        flags = {
            "upstream_protocol": self.upstream,
            "upstream_grpc": f"127.0.0.1:{upstream_grpc}",
            "upstream_rest": f"127.0.0.1:{upstream_rest}",
            "port": str(grpc),
            "rest_port": str(rest),
            "grpc_bind_address": "0.0.0.0",  # noqa: S104 - a pod's own network
            "rest_bind_address": "0.0.0.0",  # noqa: S104
            "grpc_channel_arguments": CHANNEL_ARGUMENTS,
        }
        ready = {"httpGet": {"path": _MODEL_PATH[self.protocol].format(model=model), "port": BRIDGE_REST_PORT}}
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
                "tcpSocket": {"port": BRIDGE_GRPC_PORT},
                "initialDelaySeconds": 10,
                "periodSeconds": 10,
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
    return Bridge(lacking[0], own[0], engine.ports(spec)) if lacking else None


def service_ports(spec: Spec, engine: Engine) -> tuple[ServicePort, ...]:
    """The ports that clients call, and where in the pod they are answered."""
    ports = []
    for protocol in wanted_protocols(spec, engine):
        targets = engine.ports(spec) if protocol in engine.protocols(spec) else PORTS[protocol]
        for kind, port, target in zip(("grpc", "http"), PORTS[protocol], targets, strict=True):
            ports.append(ServicePort(f"{_PORT_PREFIX[protocol]}-{kind}", port, target, kind == "grpc"))
    return tuple(ports)
