"""Our own server: both protocols on one pair of ports, and either library behind them."""

import json
from collections.abc import Mapping

from atalaya_operator.devices import OPENVINO_DEVICE
from atalaya_operator.engines.base import CHANNEL_ARGUMENTS, Request, Server, p95, selector, total
from atalaya_operator.engines.batching import FILE, batching_parameters
from atalaya_operator.names import CONFIG_FOLDER
from atalaya_spec.inference_model import Spec
from atalaya_spec.server_versions import PROTOCOLS, backend_of
from atalaya_spec.signals import ATALAYA

_PORTS = (9000, 8000)
_USER_ID = 65532
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own network; by default it listens to its machine only


class Atalaya:
    """The engine `atalaya`."""

    def protocols(self, spec: Spec) -> tuple[str, ...]:  # noqa: ARG002 - the same for all versions
        return PROTOCOLS

    def schemes(self, spec: Spec) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def ports(self, spec: Spec) -> tuple[int, int]:  # noqa: ARG002
        return _PORTS

    def server(self, request: Request) -> Server:
        spec, newest = request.spec, request.versions[-1]
        version = spec.engine_version or request.platform.atalaya_version
        return Server(
            image=spec.image or f"{request.platform.atalaya_repository}:{version}{_variant(spec)}",
            args=tuple(_arguments(request)),
            grpc_port=_PORTS[0],
            rest_port=_PORTS[1],
            model_path=f"/v2/models/{request.name}/versions/{newest}/ready",
            live_path="/v2/health/live",
            metrics_path="/metrics",
            user_id=_USER_ID,
            is_amd64_only=False,
            config={FILE: batching_parameters(spec.batching)} if spec.batching else {},
        )

    def signal(self, signal: str, labels: Mapping[str, str]) -> str:
        chosen = selector(**{ATALAYA.model_label: labels["model"], "namespace": labels["namespace"]})
        return {
            "concurrency": total(f"{ATALAYA.in_flight}{chosen}"),
            "queue": total(f"{ATALAYA.queue}{chosen}"),
            "latencyP95": p95(f"{ATALAYA.latency}_bucket{chosen}", "* 1000"),
        }[signal]


def _variant(spec: Spec) -> str:
    """TensorFlow is several times as large as all the rest, and so has an image of its own."""
    return "-tensorflow" if backend_of(spec.engine, spec.backend) == "tensorflow" else ""


def _arguments(request: Request) -> list[str]:
    policy = json.dumps({"specific": {"versions": list(request.versions)}}, separators=(",", ":"))
    flags = {
        "model_name": request.name,
        "model_path": request.path,
        "model_version_policy": policy,
        "backend": backend_of(request.spec.engine, request.spec.backend),
        "target_device": OPENVINO_DEVICE[request.device],
        "port": str(_PORTS[0]),
        "rest_port": str(_PORTS[1]),
        "grpc_bind_address": _EVERYWHERE,
        "rest_bind_address": _EVERYWHERE,
        "grpc_channel_arguments": CHANNEL_ARGUMENTS,
    }
    arguments = [f"--{flag}={value}" for flag, value in flags.items()]
    if request.spec.batching:
        arguments += ["--enable_batching", f"--batching_parameters_file={CONFIG_FOLDER}/{FILE}"]
    return arguments
