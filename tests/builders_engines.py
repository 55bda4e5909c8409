"""The three engines side by side, each with one model `m`: our server, and it in the place of the other two."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from atalaya_dashboard.collector import Served, Target
from builders_faces import running_ovms, running_tfs, until
from builders_serving import FakeEngine, fake_version, running

NAMESPACE = "relief"
_ROWS = [[1.0, 1.0, 1.0, 1.0]]
_V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": _ROWS}]}


@dataclass
class RunningEngine:
    """One of them, with an engine below it that a test can slow down, stop and break."""

    name: str
    port: int
    metrics_path: str
    below: FakeEngine
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def target(self) -> Target:
        """As a pod of the cluster."""
        return Target(f"http://127.0.0.1:{self.port}{self.metrics_path}", Served(NAMESPACE, "m", self.name), "m-0")

    def call(self, times: int = 1) -> None:
        """Inferences over REST, whether they go well or not."""
        base = f"http://127.0.0.1:{self.port}"
        for _ in range(times):
            if self.name == "tensorflow":
                httpx.post(f"{base}/v1/models/m:predict", json={"instances": _ROWS}, timeout=60)
            else:
                httpx.post(f"{base}/v2/models/m/infer", json=_V2, timeout=60)

    def fail(self, times: int) -> None:
        """Inferences that do not go well."""
        self.below.breaks = True
        self.call(times)
        self.below.breaks = False

    def probe(self, times: int) -> None:
        """What a kubelet and a client ask of a model, which is no inference."""
        paths = ("/v2/models/m/ready", "/v2/models/m")
        if self.name == "tensorflow":
            paths = ("/v1/models/m", "/v1/models/m/metadata")
        for path in paths * times:
            assert httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20).status_code == 200

    @contextmanager
    def queueing(self, calls: int) -> Iterator[None]:
        """So many calls that do not end; two compute, the rest waits."""
        self.below.gate.clear()
        computed = len(self.below.computed)
        threads = [threading.Thread(target=self.call) for _ in range(calls)]
        try:
            for thread in threads:
                thread.start()
            until(lambda: len(self.below.computed) == computed + 2)
            yield
        finally:
            self.below.gate.set()
            for thread in threads:
                thread.join(60)


@contextmanager
def three_engines(folder: Path) -> Iterator[Mapping[str, RunningEngine]]:
    """By the names that `spec.engine` has."""
    fake_version(folder, "m", 3)
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    below = {name: FakeEngine(seconds=0.02) for name in ("atalaya", "openvino", "tensorflow")}
    as_ovms = ("--model_name", "m", "--model_path", str(folder / "m"), "--metrics_enable")
    as_tfs = ("--model_name=m", f"--model_base_path={folder / 'm'}", f"--monitoring_config_file={monitoring}")
    with ExitStack() as stack:
        ours = stack.enter_context(running(folder, below["atalaya"]))
        ovms = stack.enter_context(running_ovms("2026.3", *as_ovms, engine=below["openvino"]))
        tfs = stack.enter_context(running_tfs("2.20.0", *as_tfs, engine=below["tensorflow"]))
        places = {
            "atalaya": (ours.settings.rest_port, "/metrics"),
            "openvino": (ovms.settings.rest_port, "/metrics"),
            "tensorflow": (tfs.settings.rest_port, "/monitoring/prometheus/metrics"),
        }
        yield {name: RunningEngine(name, port, path, below[name]) for name, (port, path) in places.items()}
