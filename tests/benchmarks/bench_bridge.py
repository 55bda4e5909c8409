"""What a bridge adds to a call, beside a bare byte pass-through in the same Python grpcio, interleaved call by call.

The upstream answers a fixed message at once, so that nothing is measured but the hop. `added` is the median latency
less that of a direct call in the upstream's protocol; the target is at most 1.2 times what the pass-through adds. CPU
is that of the process in the middle, a request. Writes bridge.json and bridge.md.

    .venv/bin/python tests/benchmarks/bench_bridge.py [--calls 2000] [--rounds 3] [--sizes 16384,1048576]
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
from tritonclient.grpc import service_pb2

from atalaya_serving.bridge import tfs_wire, v2_wire, wire
from atalaya_serving.engines.openvino import processor_name
from atalaya_serving.tfs.messages import PredictRequest, PredictResponse

ROOT = Path(__file__).parents[2]
V2, TFS = "/inference.GRPCInferenceService/ModelInfer", "/tensorflow.serving.PredictionService/Predict"
TARGET = 1.2
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
Call = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """One way in the middle, for one size of request."""

    way: str
    request_bytes: int
    direct_p50_ms: float
    pass_through_added_ms: float
    bridge_added_ms: float
    ratio: float
    pass_through_cpu_us: float
    bridge_cpu_us: float


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve(port: int, methods: dict[str, Callable[[bytes, grpc.ServicerContext], bytes]]) -> None:
    """A gRPC server of bytes, as a user of grpcio writes one."""
    server = grpc.server(ThreadPoolExecutor(32), options=OPTIONS)
    for path, method in methods.items():
        service, _, name = path[1:].partition("/")
        handlers = {name: grpc.unary_unary_rpc_method_handler(method)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def upstream(port: int) -> None:
    """Answers both protocols at once with one probability."""
    tensor = np.full((1, 1), 0.5, np.float32)
    head = service_pb2.ModelInferResponse(model_name="m", model_version="1")
    spec = PredictResponse().model_spec
    spec.name, spec.version.value = "m", 1
    v2 = wire.join(v2_wire.write_response(head, [("y", "FP32", tensor)]))
    tfs = wire.join(tfs_wire.write_response(spec, [("y", "FP32", tensor)]))
    serve(port, {V2: lambda _message, _context: v2, TFS: lambda _message, _context: tfs})


def pass_through(port: int, target: int) -> None:
    """Hands bytes on, with the caller's deadline, and reads none of them."""
    channel = grpc.insecure_channel(f"127.0.0.1:{target}", options=OPTIONS)
    calls = {path: channel.unary_unary(path) for path in (V2, TFS)}

    def hand_on(path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        return lambda message, context: calls[path](message, timeout=context.time_remaining())

    serve(port, {path: hand_on(path) for path in calls})


def requests(size: int) -> dict[str, bytes]:
    """The same tensor as either protocol sends it."""
    tensor = np.random.default_rng(0).integers(0, 256, (1, size), np.uint8)
    spec = PredictRequest().model_spec
    spec.name = "m"
    return {
        V2: wire.join(v2_wire.write_request("m", "", [("x", "UINT8", tensor)], [])),
        TFS: wire.join(tfs_wire.write_request(spec, [("x", "UINT8", tensor)], [])),
    }


@contextmanager
def process(port: int, *arguments: str) -> Iterator[psutil.Process]:
    """A Python process that listens on `port`; ended at the end."""
    started = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:
        grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{port}")).result(timeout=60)
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


def bridge(client: str, port: int, target: int) -> list[str]:
    other = {"tfs": "v2", "v2": "tfs"}[client]
    where = ["--upstream", f"127.0.0.1:{target}", "--port", str(port), "--rest_port", "0", "--drain_seconds", "1"]
    return ["-m", "atalaya_serving", "bridge", "--from", client, "--to", other, *where, "--log_level", "ERROR"]


def latencies(calls: dict[str, Call], count: int) -> dict[str, list[float]]:
    """Milliseconds of `count` calls each, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(50):
            call()
    for _ in range(count):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - begun) * 1e3)
    return taken


def cpu_us(process_in_the_middle: psutil.Process, call: Call, count: int) -> float:
    before = sum(process_in_the_middle.cpu_times()[:2])
    for _ in range(count):
        call()
    return (sum(process_in_the_middle.cpu_times()[:2]) - before) / count * 1e6


def measure(sizes: list[int], calls: int, rounds: int) -> list[Row]:
    ports = {name: free_port() for name in ("upstream", "pass-through", "tfs", "v2")}
    to = ports["upstream"]
    me = str(Path(__file__))
    commands = {
        "upstream": [me, "--worker", f"upstream,{to}"],
        "pass-through": [me, "--worker", f"pass-through,{ports['pass-through']},{to}"],
        "tfs": bridge("tfs", ports["tfs"], to),
        "v2": bridge("v2", ports["v2"], to),
    }
    rows = []
    with ExitStack() as stack:
        running = {name: stack.enter_context(process(ports[name], *command)) for name, command in commands.items()}
        channels = {
            name: stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS))
            for name, port in ports.items()
        }
        for size in sizes:
            messages = requests(size)

            def call(name: str, path: str, messages: dict[str, bytes] = messages) -> Call:
                method = channels[name].unary_unary(path)
                return lambda: method(messages[path], timeout=10)

            for client, spoken, there in (("tfs", TFS, V2), ("v2", V2, TFS)):
                ways = {
                    "direct": call("upstream", there),
                    "pass-through": call("pass-through", there),
                    "bridge": call(client, spoken),
                }
                rows.append(_row(client, size, ways, running, (calls, rounds)))
    return rows


def _row(
    client: str, size: int, ways: dict[str, Call], running: dict[str, psutil.Process], effort: tuple[int, int]
) -> Row:
    calls, rounds = effort
    medians: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {"pass-through": [], "bridge": []}
    for _ in range(rounds):
        for name, taken in latencies(ways, calls // rounds).items():
            medians[name].append(statistics.median(taken))
        for name, spent in cpu.items():
            spent.append(cpu_us(running[client if name == "bridge" else name], ways[name], calls // rounds))
    direct = statistics.median(medians["direct"])
    way = {"tfs": "TFS client, v2 upstream", "v2": "v2 client, TFS upstream"}[client]
    added = statistics.median(b - d for b, d in zip(medians["bridge"], medians["direct"], strict=True))
    base = statistics.median(p - d for p, d in zip(medians["pass-through"], medians["direct"], strict=True))
    return Row(way, size, direct, base, added, added / base, *map(statistics.median, cpu.values()))


def markdown(rows: list[Row], about: dict[str, object]) -> str:
    lines = [
        "# What the bridge adds, concurrency 1",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items()),
        "",
        "| | request bytes | direct p50 ms | pass-through adds ms | bridge adds ms | ratio | pass-through CPU µs |"
        " bridge CPU µs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.way} | {row.request_bytes} | {row.direct_p50_ms:.3f} | {row.pass_through_added_ms:.3f} |"
            f" {row.bridge_added_ms:.3f} | {row.ratio:.2f} | {row.pass_through_cpu_us:.0f} | {row.bridge_cpu_us:.0f} |"
        )
    worst = max(row.ratio for row in rows)
    met = "met" if worst <= TARGET else "missed"
    return "\n".join([*lines, "", f"- the bridge adds at most {worst:.2f} times what the pass-through adds"
                      f" (target ≤ {TARGET}): {met}"]) + "\n"  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=lambda text: list(map(int, text.split(","))), default=[16384, 1 << 20])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, *ports = arguments.worker.split(",")
        {"upstream": upstream, "pass-through": pass_through}[name](*map(int, ports))
        return
    rows = measure(arguments.sizes, arguments.calls, arguments.rounds)
    about = {"processor": processor_name(), "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}",
             "calls": arguments.calls, "rounds": arguments.rounds, "python": platform.python_version(),
             "grpcio": grpc.__version__}  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = {"about": about, "target": TARGET, "rows": list(map(asdict, rows))}
    (arguments.out / "bridge.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (arguments.out / "bridge.md").write_text(markdown(rows, about), encoding="utf-8")
    print(markdown(rows, about))


if __name__ == "__main__":
    main()
