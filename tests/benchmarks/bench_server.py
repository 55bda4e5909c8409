"""What a server adds to inference: its CPU time a request less the bare inference's, beside KServe's and MLServer's.

Client and servers share the same cores; every round measures the bare inference and each server in turn, so that a
phase of a slow or stolen processor falls on all alike. Figures are medians of the rounds. The measure is CPU time of
the server's process tree: wall time on a shared machine says little. Writes server.json and server.md.

    .venv/bin/python tests/benchmarks/bench_server.py [--rounds 7] [--seconds 4] [--without kserve,mlserver]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from peers.raw_slots import Slots
from thesis_network import write_version
from tritonclient.grpc import service_pb2

from atalaya_serving.benching.driving import Limits, drive
from atalaya_serving.benching.errors import CallFailed
from atalaya_serving.benching.machine import Ticks, about_machine
from atalaya_serving.benching.processes import Tree, end, free_port, start
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.reports import machine_line
from atalaya_serving.engines.openvino import best_precision

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INFER = "/inference.GRPCInferenceService/ModelInfer"
SERVERS = ("atalaya", "atalaya-whole", "kserve", "kserve-lean", "mlserver")
"""`whole`: without a manifest, so that batches run whole. `lean`: without the log of timings that KServe keeps by
default. MLServer runs in one process, which spares it the pipe to a worker."""
TARGETS = {"added_ms_b1": 0.58, "kserve": 3.5, "mlserver": 7.0, "share_b16": 0.95}


@dataclass(frozen=True)
class Sample:
    """One server in one round. Times are CPU time of the server's processes."""

    server: str
    round: int
    batch: int
    concurrency: int
    images_per_s: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    steal_share: float


def steal_share(before: Ticks, after: Ticks) -> float:
    return (after.steal - before.steal) / max(1e-9, after.total - before.total)


def request_bytes(batch: int) -> bytes:
    tiles = np.random.default_rng(0).random((batch, 128, 128, 1)).astype(np.float32)
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="tiles", datatype="FP32", shape=tiles.shape)
    return service_pb2.ModelInferRequest(
        model_name="thesis", inputs=[tensor], raw_input_contents=[tiles.tobytes()]
    ).SerializeToString()


class Server:
    """A server process and a channel to it."""

    def __init__(self, name: str, command: list[str], port: int, env: dict[str, str], log: Path) -> None:
        self.name, self.port = name, port
        with log.open("wb") as output:
            self.process = start(command, output.fileno(), os.environ | env)
        self.tree = Tree([self.process.pid])
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.call = self.channel.unary_unary(INFER)
        self._wait(log)

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + 90
        while True:
            try:
                self.call(request_bytes(1), timeout=5)
                return
            except grpc.RpcError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{self.name} does not answer ({error.details()}); see {log}") from error
                time.sleep(0.5)

    def close(self) -> None:
        self.channel.close()
        end(self.process)


def load(server: Server, batch: int, concurrency: int, seconds: float, number: int) -> Sample:
    """Keep `concurrency` calls in flight for `seconds`."""
    message = request_bytes(batch)
    for _ in range(4):
        server.call(message)

    def call(_number: int) -> None:
        try:
            server.call(message)
        except grpc.RpcError as error:
            raise CallFailed(error.code().name, str(error.details())) from error

    ticks, cpu = Ticks.now(), server.tree.cpu_seconds()
    driven = drive([call] * concurrency, Limits(seconds))
    used, steal = server.tree.cpu_seconds() - cpu, steal_share(ticks, Ticks.now())
    if driven.errors:
        raise SystemExit(f"{server.name} failed under load: {driven.first_error}")
    told, count = latency(driven.latencies), len(driven.latencies)
    return Sample(
        server.name, number, batch, concurrency, count * batch / driven.wall_seconds, 1e6 * used / count,
        told.p50_ms or 0.0, told.p99_ms or told.max_ms or 0.0, steal,
    )  # fmt: skip


def raw_worker(model: str) -> None:
    """A process that infers on command: `batch seconds` in, `calls wall cpu` out."""
    slots = Slots(model)
    print("ready", flush=True)
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        tiles = np.random.default_rng(0).random((batch, 128, 128, 1)).astype(np.float32)
        counts = [0] * slots.count
        slots.run(tiles)
        until = time.perf_counter() + seconds

        def work(index: int, tiles: np.ndarray = tiles, until: float = until, counts: list[int] = counts) -> None:
            while time.perf_counter() < until:
                slots.run(tiles)
                counts[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(slots.count)]
        cpu, start = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sum(counts), time.perf_counter() - start, time.process_time() - cpu, flush=True)


class Raw:
    """The bare inference, in a process of its own as the servers are."""

    name = "raw inference"

    def __init__(self, model: Path, env: dict[str, str]) -> None:
        command = [sys.executable, __file__, "--raw-worker", str(model)]
        self._process = subprocess.Popen(
            command, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run(self, batch: int, seconds: float, number: int) -> Sample:
        assert self._process.stdin is not None
        ticks = Ticks.now()
        self._process.stdin.write(f"{batch} {seconds}\n")
        self._process.stdin.flush()
        calls, wall, cpu = map(float, self._line().split())
        share = steal_share(ticks, Ticks.now())
        return Sample(self.name, number, batch, 2, calls * batch / wall, 1e6 * cpu / calls, 0.0, 0.0, share)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def own_servers(work: Path, wanted: list[str], env: dict[str, str]) -> Iterator[Server]:
    folders = {"atalaya": "thesis", "atalaya-whole": "whole"}
    for name in (name for name in wanted if name in folders):
        port = free_port()
        flags = ["--rest_port", "0", "--precision", env["BENCH_PRECISION"], "--port", str(port)]
        model = ["--model_name", "thesis", "--model_path", str(work / folders[name])]
        yield Server(name, [sys.executable, "-m", "atalaya_serving", *flags, *model], port, env, work / f"{name}.log")


def peer_servers(work: Path, model: Path, wanted: list[str], env: dict[str, str]) -> Iterator[Server]:
    """The other servers, each in an environment of its own."""
    for name in (name for name in wanted if not name.startswith("atalaya")):
        port, program = free_port(), ROOT / ".venvs" / name.partition("-")[0] / "bin"
        if name.startswith("kserve"):
            command = [program / "python", HERE / "peers" / "kserve_server.py", model, port, free_port()]
        else:
            command = [program / "mlserver", "start", mlserver_folder(work, name, port)]
        lean = {"BENCH_LEAN": "1"} if name.endswith("lean") else {}
        more = {"PYTHONPATH": str(HERE / "peers"), "BENCH_MODEL": str(model), **lean}
        yield Server(name, list(map(str, command)), port, env | more, work / f"{name}.log")


def mlserver_folder(work: Path, name: str, port: int) -> Path:
    """Its settings, without the worker process."""
    folder = work / name
    folder.mkdir(exist_ok=True)
    settings = {"host": "127.0.0.1", "grpc_port": port, "http_port": free_port(), "metrics_port": free_port(),
                "parallel_workers": 0, "debug": False, "grpc_max_message_length": 2**30}  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "thesis", "implementation": "mlserver_runtime.Network"})
    )
    return folder


@contextmanager
def workplace() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="bench-server-") as folder:
        work = Path(folder)
        model = write_version(work / "thesis" / "1")
        shutil.copytree(work / "thesis", work / "whole", ignore=shutil.ignore_patterns("manifest.yaml"))
        yield work, model


def measure(arguments: argparse.Namespace, env: dict[str, str]) -> list[Sample]:
    wanted = [name for name in SERVERS if name not in arguments.without]
    samples = []
    with workplace() as (work, model), ExitStack() as stack:
        raw = Raw(model, env)
        stack.callback(raw.close)
        running = []
        for server in (*own_servers(work, wanted, env), *peer_servers(work, model, wanted, env)):
            stack.callback(server.close)
            running.append(server)
        for number in range(arguments.rounds):
            for batch in arguments.batches:
                samples.append(raw.run(batch, arguments.seconds, number))
                for server in running:
                    samples.append(load(server, batch, arguments.concurrency, arguments.seconds, number))
                    print(samples[-1], file=sys.stderr, flush=True)
    return samples


@dataclass(frozen=True)
class Row:
    """The medians of one server at one batch."""

    server: str
    batch: int
    images_per_s: float
    cpu_us_per_image: float
    added_us_per_request: float
    share_of_raw: float
    p50_ms: float
    p99_ms: float
    steal_share: float


def rows(samples: list[Sample]) -> list[Row]:
    made = []
    bare = {(one.batch, one.round): one.cpu_us_per_request for one in samples if one.server == Raw.name}
    for server, batch in dict.fromkeys((one.server, one.batch) for one in samples):
        own = [one for one in samples if (one.server, one.batch) == (server, batch)]
        middle = {field: statistics.median(getattr(one, field) for one in own) for field in
                  ("images_per_s", "cpu_us_per_request", "p50_ms", "p99_ms", "steal_share")}  # fmt: skip
        added = statistics.median(one.cpu_us_per_request - bare[batch, one.round] for one in own)
        share = statistics.median(bare[batch, one.round] / one.cpu_us_per_request for one in own)
        made.append(Row(server, batch, middle["images_per_s"], middle["cpu_us_per_request"] / batch, added, share,
                        middle["p50_ms"], middle["p99_ms"], middle["steal_share"]))  # fmt: skip
    return made


def markdown(table: list[Row], about: dict[str, Any]) -> str:
    columns = ("batch", "server", "images/s", "CPU µs/image", "added CPU µs/request", "of raw images per CPU s",
               "p50 ms", "p99 ms", "steal")  # fmt: skip
    head = f"| {' | '.join(columns)} |"
    plan = ", ".join(f"{key} {about[key]}" for key in ("precision", "concurrency", "rounds", "seconds"))
    lines = [
        f"{machine_line(about)} {plan}.",
        "",
        head,
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(table, key=lambda row: (row.batch, row.cpu_us_per_image)):
        lines.append(
            f"| {row.batch} | {row.server} | {row.images_per_s:.0f} | {row.cpu_us_per_image:.0f} |"
            f" {row.added_us_per_request:.0f} | {row.share_of_raw:.1%} | {row.p50_ms:.1f} | {row.p99_ms:.1f} |"
            f" {row.steal_share:.0%} |"
        )
    return "\n".join([*lines, "", *verdicts(table)]) + "\n"


def verdicts(table: list[Row]) -> list[str]:
    """The targets, each met or not."""
    found = {(row.server, row.batch): row for row in table}
    told = []
    if ours := found.get(("atalaya", 1)):
        added = ours.added_us_per_request / 1000
        told.append(f"- batch 1 adds {added:.2f} ms (target ≤ {TARGETS['added_ms_b1']})")
        for peer in SERVERS[2:]:
            if other := found.get((peer, 1)):
                ratio = other.added_us_per_request / ours.added_us_per_request
                told.append(f"- {peer} adds {ratio:.1f} times as much (target ≥ {TARGETS[peer.partition('-')[0]]})")
    told += [f"- batch 16, {name}: {found[name, 16].share_of_raw:.1%} of raw images per CPU second (target ≥ 95%)"
             for name in ("atalaya", "atalaya-whole") if (name, 16) in found]  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--batches", type=lambda text: list(map(int, text.split(","))), default=[1, 16])
    parser.add_argument("--precision", default=best_precision())
    parser.add_argument("--without", type=lambda text: text.split(","), default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--raw-worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.raw_worker:
        raw_worker(arguments.raw_worker)
        return
    env = {"BENCH_PRECISION": arguments.precision}
    samples = measure(arguments, env)
    about = about_machine() | {"precision": arguments.precision, "concurrency": arguments.concurrency,
                               "rounds": arguments.rounds, "seconds": arguments.seconds}  # fmt: skip
    table = rows(samples)
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = {"about": about, "targets": TARGETS, "rows": list(map(asdict, table)), "samples": list(map(asdict, samples))}
    (arguments.out / "server.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (arguments.out / "server.md").write_text(markdown(table, about), encoding="utf-8")
    print(markdown(table, about))


if __name__ == "__main__":
    main()
