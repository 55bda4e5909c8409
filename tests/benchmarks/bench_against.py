"""`atalaya bench load --against` beside peers: our server, MLServer and KServe's Python server with one network.

The peers run in environments of their own, which `make peers` sets up. Writes build/bench/against/.

    .venv/bin/python tests/benchmarks/bench_against.py [--seconds 2] [--rounds 3] [--without kserve,mlserver]
"""

import argparse
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench_server import ROOT, peer_servers, workplace

from atalaya_serving.engines.openvino import best_precision

PEERS = ("kserve-lean", "mlserver")


def main() -> int:
    """Start the peers, measure all in one command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", default="2")
    parser.add_argument("--rounds", default="3")
    parser.add_argument("--without", type=lambda text: text.split(","), default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "against")
    arguments = parser.parse_args()
    wanted = [name for name in PEERS if name.partition("-")[0] not in arguments.without]
    with workplace() as (work, model), ExitStack() as stack:
        command = [
            sys.executable, "-m", "atalaya", "bench", "load", "--model", "thesis", "--repository", str(work),
            "--input", "tiles:FP32:-1,128,128,1", "--protocol", "v2-grpc", "--concurrency", "1,8", "--batch", "1,16",
            "--seconds", arguments.seconds, "--rounds", arguments.rounds, "--out", str(arguments.out), "--with-ours",
        ]  # fmt: skip
        for server in peer_servers(work, model, wanted, {"BENCH_PRECISION": best_precision()}):
            stack.callback(server.close)
            print(f"{server.name} is at 127.0.0.1:{server.port}", file=sys.stderr)
            command += ["--against", f"{server.name}=127.0.0.1:{server.port}"]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
