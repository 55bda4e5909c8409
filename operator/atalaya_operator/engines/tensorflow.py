"""TensorFlow Serving: versions are pinned in a file, because no flag can, and metrics are switched on by another."""

from collections.abc import Mapping

from atalaya_operator.devices import is_nvidia
from atalaya_operator.engines.base import CHANNEL_ARGUMENTS, RATE_WINDOW, Request, Server, p95, selector, total
from atalaya_operator.engines.batching import FILE, batching_parameters
from atalaya_operator.names import CONFIG_FOLDER
from atalaya_spec import tfs
from atalaya_spec.inference_model import Spec
from atalaya_spec.model_server import ModelServer
from atalaya_spec.server_versions import CPU
from atalaya_spec.signals import TENSORFLOW

_USER_ID = 65532  # its image sets no user, which is root
_LOAD_RETRIES, _RETRY_MICROS = 2, 1_000_000  # by default it tries a broken model for five minutes


class TensorFlow:
    """The engine `tensorflow`."""

    def protocols(self, spec: Spec) -> tuple[str, ...]:
        return _version(spec).protocols

    def schemes(self, spec: Spec) -> tuple[str, ...]:
        return _version(spec).storage_schemes

    def ports(self, spec: Spec) -> tuple[int, int]:
        known = _version(spec)
        return known.grpc_port, known.rest_port

    def server(self, request: Request) -> Server:
        known, newest = _version(request.spec), request.versions[-1]
        status = known.probes.model_ready_path.format(model=request.name)
        return Server(
            image=request.spec.image or _image(request, known.version),
            args=tuple(_arguments(request, known)),
            grpc_port=known.grpc_port,
            rest_port=known.rest_port,
            # The status itself is answered with 200 for a version that failed; metadata only of one that is loaded.
            model_path=f"{status}/versions/{newest}/metadata",
            live_path="",
            metrics_path=known.metrics.path,
            user_id=known.user_id or _USER_ID,
            is_amd64_only=request.spec.image is None,
            config=_files(request, known),
            # Without it one process takes all of a GPU's memory, and a time-sliced GPU has several.
            environment={"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if is_nvidia(request.device) else {},
        )

    def signal(self, signal: str, labels: Mapping[str, str]) -> str:
        chosen = selector(**{TENSORFLOW.model_label: labels["model"], "namespace": labels["namespace"]})
        latency = TENSORFLOW.latency
        return {
            # It counts no calls in flight; by Little's law they are the seconds spent on calls in each second.
            "concurrency": total(f"rate({latency}_sum{chosen}[{RATE_WINDOW}]) / 1000000"),
            "latencyP95": p95(f"{latency}_bucket{chosen}", "/ 1000"),
        }[signal]


def _version(spec: Spec) -> ModelServer:
    return tfs.server(spec.engine_version or tfs.VERSIONS[-1])


def _image(request: Request, version: str) -> str:
    return f"{request.platform.tensorflow_repository}:{version}{'' if request.device == CPU else '-gpu'}"


def _arguments(request: Request, known: ModelServer) -> list[str]:
    flags = {
        known.grpc_port_flag: str(known.grpc_port),
        known.rest_port_flag: str(known.rest_port),
        "model_config_file": f"{CONFIG_FOLDER}/models.config",
        known.metrics.enabled_by: f"{CONFIG_FOLDER}/monitoring.config",
        "file_system_poll_wait_seconds": "0",
        "max_num_load_retries": str(_LOAD_RETRIES),
        "load_retry_interval_micros": str(_RETRY_MICROS),
        "grpc_channel_arguments": CHANNEL_ARGUMENTS,
        known.probes.grpc_health_flag: "true",
    }
    if request.spec.batching:
        flags |= {"enable_batching": "true", "batching_parameters_file": f"{CONFIG_FOLDER}/{FILE}"}
    return [f"--{flag}={value}" for flag, value in flags.items()]


def _files(request: Request, known: ModelServer) -> dict[str, str]:
    versions = " ".join(f"versions: {version}" for version in request.versions)
    files = {
        "models.config": (
            "model_config_list {\n  config {\n"
            f'    name: "{request.name}"\n    base_path: "{request.path}"\n    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ specific {{ {versions} }} }}\n  }}\n}}\n"
        ),
        "monitoring.config": f'prometheus_config {{ enable: true path: "{known.metrics.path}" }}\n',
    }
    return files | ({FILE: batching_parameters(request.spec.batching)} if request.spec.batching else {})
