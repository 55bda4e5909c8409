#!/usr/bin/env bash
# Resolve pyproject.toml again and write the pinned, hashed requirement files. No file names a registry.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile -q --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links "$@"; }
compile --universal --all-extras pyproject.toml requirements/build.in -o requirements/dev.txt
compile --universal --extra dashboard --extra postgres pyproject.toml requirements/build.in -c requirements/dev.txt -o requirements/runtime.txt
for peer in kserve mlserver triton; do compile "requirements/bench-$peer.in" -o "requirements/bench-$peer.txt"; done
