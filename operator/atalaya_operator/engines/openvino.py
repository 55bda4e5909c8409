"""OpenVINO Model Server: everything by flags, any of which it would end on if its version did not know it."""

import json
import math
from collections.abc import Mapping

from atalaya_operator.devices import OPENVINO_DEVICE
from atalaya_operator.engines.base import CHANNEL_ARGUMENTS, Request, Server, p95, selector, total
from atalaya_spec import ovms
from atalaya_spec.inference_model import Batching, Spec
from atalaya_spec.model_server import ModelServer
from atalaya_spec.server_versions import CPU, INTEL_NPU
from atalaya_spec.signals import OPENVINO

_OWN_USER_ID = 5000


class OpenVino:
    """The engine `openvino`."""

    def protocols(self, spec: Spec) -> tuple[str, ...]:
        return _version(spec).protocols

    def schemes(self, spec: Spec) -> tuple[str, ...]:
        return _version(spec).storage_schemes

    def ports(self, spec: Spec) -> tuple[int, int]:
        known = _version(spec)
        return known.grpc_port, known.rest_port

    def server(self, request: Request) -> Server:
        known, newest = _version(request.spec), request.versions[-1]
        return Server(
            image=request.spec.image or _image(request, known.version),
            args=tuple(_arguments(request, known)),
            grpc_port=known.grpc_port,
            rest_port=known.rest_port,
            model_path=f"/v2/models/{request.name}/versions/{newest}/ready",
            live_path=known.probes.live_path,
            metrics_path=known.metrics.path,
            user_id=known.user_id or _OWN_USER_ID,
            is_amd64_only=request.spec.image is None,
        )

    def signal(self, signal: str, labels: Mapping[str, str]) -> str:
        chosen = selector(**{OPENVINO.model_label: labels["model"], "namespace": labels["namespace"]})
        running = f"{OPENVINO.in_flight}{chosen}"
        return {
            "concurrency": total(running),
            "queue": total(f"clamp_min({running} - {OPENVINO.capacity}{chosen}, 0)"),
            "latencyP95": p95(f"{OPENVINO.latency}_bucket{chosen}", "/ 1000"),
        }[signal]


def _version(spec: Spec) -> ModelServer:
    return ovms.server(spec.engine_version or ovms.VERSIONS[-1])


def _image(request: Request, version: str) -> str:
    return f"{request.platform.openvino_repository}:{version}{'' if request.device == CPU else '-gpu'}"


def _arguments(request: Request, known: ModelServer) -> list[str]:
    policy = json.dumps({"specific": {"versions": list(request.versions)}}, separators=(",", ":"))
    flags = {
        "model_name": request.name,
        "model_path": request.path,
        "model_version_policy": policy,
        **_computing(request.device, request.spec.batching),
        known.grpc_port_flag: str(known.grpc_port),
        known.rest_port_flag: str(known.rest_port),
        "grpc_channel_arguments": CHANNEL_ARGUMENTS,
        "file_system_poll_wait_seconds": "0",
    }
    return [*(f"--{flag}={value}" for flag, value in flags.items()), f"--{known.metrics.enabled_by}"]


def _computing(device: str, batching: Batching | None) -> dict[str, str]:
    """Always a device, for 2026.3's own choice is a GPU; an NPU computes fixed shapes only."""
    named = OPENVINO_DEVICE[device]
    if device == INTEL_NPU:
        return {"target_device": named, "batch_size": "1"}
    if batching is None:
        return {"target_device": named}
    computing = {"target_device": f"BATCH:{named}({batching.max_size})"}
    if batching.timeout:
        millis = math.ceil(batching.timeout.seconds * 1000)
        computing["plugin_config"] = json.dumps({"AUTO_BATCH_TIMEOUT": str(millis)}, separators=(",", ":"))
    return computing
