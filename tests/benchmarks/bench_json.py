"""CPU time of a server for images that come as JSON numbers, by REST protocol; beside another checkout where asked.

The model answers at once, so that nothing is measured but the protocol: `rows` gives one number an image, `echo` gives
the image back. Every round calls all servers in turn. Writes json.json and json.md.

    .venv/bin/python tests/benchmarks/bench_json.py [--rounds 5] [--calls 60] [--other ../before]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from atalaya_serving.benching.machine import about_machine
from atalaya_serving.benching.processes import Tree, free_port
from atalaya_serving.benching.reports import machine_line

ROOT = Path(__file__).parents[2]
SHAPE = (100, 100, 3)
MODELS = {"rows": True, "echo": False}
_START_SECONDS = 60


@dataclass(frozen=True)
class Row:
    """Medians over the rounds."""

    checkout: str
    protocol: str
    numbers: str
    model: str
    body_kib: float
    cpu_ms: float
    wall_ms: float


def write_models(root: Path, numbers: str) -> None:
    """Of that datatype, one that sums each image up and one that gives it back."""
    for name, is_sum in MODELS.items():
        given = ops.parameter([-1, *SHAPE], getattr(ov.Type, numbers), name="x")
        floats = ops.convert(given, "f32")
        answer = ops.reduce_sum(floats, ops.constant(np.array([1, 2, 3])), True) if is_sum else floats
        model = ov.Model([ops.result(answer)], [given], name)
        model.inputs[0].set_names({"x"})
        model.outputs[0].set_names({"y"})
        folder = root / f"{name}-{numbers}" / "1"
        folder.mkdir(parents=True)
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def bodies(numbers: str) -> dict[str, bytes]:
    """An image, as each protocol writes it."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, SHAPE, np.uint8) if numbers == "u8" else random.random(SHAPE, np.float32)
    v2 = {
        "name": "x",
        "datatype": "UINT8" if numbers == "u8" else "FP32",
        "shape": [1, *SHAPE],
        "data": image.ravel().tolist(),
    }
    return {
        "tfs-rest": json.dumps({"instances": [image.tolist()]}).encode(),
        "v2-rest": json.dumps({"inputs": [v2]}).encode(),
    }


@contextmanager
def serving(checkout: Path, root: Path) -> Iterator[tuple[str, Tree]]:
    """The server of a checkout, and its processes."""
    port = free_port()
    path = os.pathsep.join(str(checkout / part) for part in ("operator", "serving"))
    command = [sys.executable, "-m", "atalaya_serving", "--model_repository", str(root), "--port", "0"]
    with (root.parent / f"{checkout.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--rest_port", str(port)], env=os.environ | {"PYTHONPATH": path}, stderr=log, stdout=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + _START_SECONDS
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server of {checkout} does not answer; see {log.name}")
            time.sleep(0.2)
        yield url, Tree([process.pid])
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def call(client: httpx.Client, tree: Tree, path: str, body: bytes, calls: int) -> tuple[float, float]:
    """CPU and wall milliseconds a call."""
    client.post(path, content=body).raise_for_status()
    cpu, wall = tree.cpu_seconds(), time.perf_counter()
    for _ in range(calls):
        client.post(path, content=body)
    return 1e3 * (tree.cpu_seconds() - cpu) / calls, 1e3 * (time.perf_counter() - wall) / calls


def measure(checkouts: dict[str, Path], rounds: int, calls: int) -> list[Row]:
    """Every round, every case, every server in turn."""
    found: dict[tuple[str, str, str, str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder) / "models"
        for numbers in ("u8", "f32"):
            write_models(root, numbers)
        running = {name: stack.enter_context(serving(path, root)) for name, path in checkouts.items()}
        clients = {
            name: stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=60))
            for name, (url, _) in running.items()
        }
        for _ in range(rounds):
            for numbers in ("u8", "f32"):
                for protocol, body in bodies(numbers).items():
                    for model in MODELS:
                        named = f"{model}-{numbers}"
                        path = f"/v1/models/{named}:predict" if protocol == "tfs-rest" else f"/v2/models/{named}/infer"
                        for name, (_, tree) in running.items():
                            key = (name, protocol, numbers, model, len(body))
                            found.setdefault(key, []).append(call(clients[name], tree, path, body, calls))
    return [
        Row(*key[:4], key[4] / 1024, *(statistics.median(one[part] for one in own) for part in (0, 1)))
        for key, own in found.items()
    ]


def markdown(rows: list[Row], about: dict[str, object]) -> str:
    lines = [f"{machine_line(about)} One call at a time, {SHAPE} numbers an image.", ""]
    lines += [
        "| protocol | numbers | answer | body KiB | checkout | CPU ms | wall ms |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.protocol} | {row.numbers} | {row.model} | {row.body_kib:.0f} | {row.checkout} | {row.cpu_ms:.2f} |"
        f" {row.wall_ms:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--other", type=Path, help="another checkout, for a before and after")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    arguments = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": arguments.other.resolve()} if arguments.other else {})
    rows, about = measure(checkouts, arguments.rounds, arguments.calls), about_machine()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "json.json").write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))
    (arguments.out / "json.md").write_text(markdown(rows, about))
    print(markdown(rows, about))


if __name__ == "__main__":
    main()
