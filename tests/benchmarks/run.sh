#!/usr/bin/env bash
# Every benchmark, one after the other, on the machine as it is. Tables and JSON land in build/bench/.
# The peers are set up by `make peers`, as `make bench` does.
set -euo pipefail
cd "$(dirname "$0")/../.."
for bench in bench_cli bench_server bench_bridge bench_json bench_against bench_assess; do
  echo "== $bench"
  .venv/bin/python "tests/benchmarks/$bench.py"
done
