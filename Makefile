# The two commands: `make demo` shows the product, `make test` proves it. Each sets up what it needs, once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
IMAGE_TOOL ?= docker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TILES ?= ../shared/data/haiti-tiles.npz
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help
.PHONY: help demo test setup system-packages lint unit conformance e2e browser bench bench-load bench-operator bench-thesis format clean
.PHONY: peers images cluster cluster-prepare cluster-up cluster-down cluster-shell

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.runtime ## Assess a synthetic town, show its map and serve until ctrl-C (no network, no account)
	$(BIN)/atalaya demo $(DEMO_FLAGS)

test: setup system-packages lint unit conformance e2e browser cluster ## Set everything up and run all tests

setup: $(VENV)/.dev ## The whole development environment, in .venv

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here; install Python 3.11 (on Debian 12: apt-get install python3.11-venv), or name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

# A stamp names the state of its requirements: a change installs again, nothing else does.
$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	@echo "Setting up Python packages in $(VENV) (about a minute, once)"
	$(PIP_INSTALL) --require-hashes -r requirements/runtime.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "Setting up development packages in $(VENV) (about two minutes, once)"
	$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

system-packages: ## What the tests need from Debian: Chromium and PostgreSQL
	@tests/system-packages.sh

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy operator serving dashboard
	$(BIN)/lint-imports

format: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: setup ## Tests without a browser: unit, component, contract
	$(BIN)/pytest tests/unit tests/component tests/contract

# Other servers, each in an environment of its own: their protobuf stubs and ours cannot share a process.
.venvs/%/.ready: requirements/bench-%.txt | $(VENV)/.dev
	@echo "Setting up $* in .venvs/$* (up to a minute, once)"
	@rm -rf .venvs/$* && $(PYTHON) -m venv .venvs/$*
	@$(BIN)/uv pip install --quiet --python .venvs/$*/bin/python --require-hashes -r $<
	@touch $@

peers: .venvs/triton/.ready .venvs/mlserver/.ready .venvs/kserve/.ready ## Other model servers, to compare with

conformance: setup system-packages .venvs/triton/.ready .venvs/mlserver/.ready ## One suite of KServe v2 against ours, Triton and MLServer
	$(BIN)/pytest tests/conformance

e2e: setup ## The product as a user runs it, from command to map
	$(BIN)/pytest tests/e2e

browser: setup ## The dashboard in headless Chromium
	$(BIN)/pytest tests/browser

images: ## Build the images for a cluster with docker, or IMAGE_TOOL=podman, IMAGE_TOOL=buildah
	for target in operator serving dashboard; do $(IMAGE_TOOL) build --target $$target --tag atalaya/$$target:$(VERSION) .; done

cluster-prepare: setup ## Build the test cluster's programs and images (once, half an hour)
	@tests/system-packages.sh cluster
	@if [ "$$(id -u)" -eq 0 ]; then PYTHONPATH=tests $(BIN)/python -m cluster prepare; \
	else echo "The test cluster needs root; its tests are left out. To run them: sudo make cluster"; [ "$${CI:-}" != true ]; fi

cluster: cluster-prepare ## Tests on a real Kubernetes cluster (root)
	$(BIN)/pytest tests/cluster

cluster-up: cluster-prepare ## Start that cluster on this machine, to work with by hand
	PYTHONPATH=tests $(BIN)/python -m cluster up

cluster-down: ## End it, or what a crash left of it
	PYTHONPATH=tests $(BIN)/python -m cluster down

cluster-shell: ## Print the line that opens a shell inside it
	@PYTHONPATH=tests $(BIN)/python -m cluster shell

bench: setup peers ## Benchmarks beside their peers, interleaved; writes build/bench/
	tests/benchmarks/run.sh

bench-load: setup ## Our server under load: both engines, all precisions and protocols (about 20 minutes)
	$(BIN)/atalaya bench load --engine openvino,tensorflow --precision f32,bf16,int8 --concurrency 1,8,32 --batch 1,16 \
		--rounds 3 --seconds 4 --out build/bench/load

bench-thesis: setup ## The 2020 thesis' tables with both engines (a quarter of an hour); writes docs/thesis-tables.md
	$(BIN)/atalaya bench thesis --tiles $(TILES) --out build/bench/thesis
	$(BIN)/python tests/benchmarks/publish_thesis.py build/bench/thesis/thesis.md docs/thesis-tables.md

bench-operator: cluster-prepare ## What 1,000 models cost an API server and the operator (root, about ten minutes)
	$(BIN)/python tests/benchmarks/bench_operator.py

clean: ## Remove what the targets made, the environment too
	@findmnt --raw --noheadings --output TARGET | grep "^$(CURDIR)/.cache/" | tac | xargs --no-run-if-empty umount || true
	rm -rf $(VENV) .venvs .cache build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
