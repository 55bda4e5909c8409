#!/usr/bin/env bash
# Every benchmark, one after the other, on the machine as it is. Tables and JSON land in build/bench/.
# The peers have environments of their own: their protobuf stubs and ours cannot share a process.
set -euo pipefail
cd "$(dirname "$0")/../.."
for peer in kserve mlserver; do
  if [ ! -e ".venvs/$peer/.ready" ]; then
    echo "Setting up $peer in .venvs/$peer (about a minute, once)"
    python3 -m venv ".venvs/$peer"
    .venv/bin/uv pip install --quiet --python ".venvs/$peer/bin/python" --require-hashes -r "requirements/bench-$peer.txt"
    touch ".venvs/$peer/.ready"
  fi
done
for bench in bench_cli bench_server bench_bridge bench_against bench_assess; do
  echo "== $bench"
  .venv/bin/python "tests/benchmarks/$bench.py"
done
