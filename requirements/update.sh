#!/usr/bin/env bash
# Resolve pyproject.toml again and write the pinned, hashed requirement files. No file names a registry.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { "${UV:-.venv/bin/uv}" pip compile -q --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links "$@"; }
compile --universal --all-extras pyproject.toml requirements/build.in -o requirements/dev.txt
compile --universal --extra dashboard --extra postgres pyproject.toml requirements/build.in -c requirements/dev.txt -o requirements/runtime.txt
# What is in the images (Containerfile): each has what it runs, and the builder what builds our wheel.
compile --universal requirements/build.in -c requirements/dev.txt -o requirements/build.txt
compile --universal --extra dashboard --extra postgres pyproject.toml -c requirements/dev.txt -o requirements/image-dashboard.txt
for image in operator serving serving-tensorflow; do
  compile --universal "requirements/image-$image.in" -c requirements/dev.txt -o "requirements/image-$image.txt"
done
for peer in kserve mlserver triton; do compile "requirements/bench-$peer.in" -o "requirements/bench-$peer.txt"; done
