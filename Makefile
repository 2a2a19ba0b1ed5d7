# Targets for a fresh Debian 12 machine with Python 3.11 and make; `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
CONFIG ?= etc/nodemanager.cfg.example

.DEFAULT_GOAL := help
.PHONY: help venv run run-failures run-slurm run-kubernetes check lint test test-kubernetes bench docs site man dist clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

$(STAMP): requirements.lock setup.py pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer"; exit 2; }
	@echo "== making $(VENV) and installing what requirements.lock names (about 30 s)"
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: on Debian, apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock \
		| sed -n 's/^Collecting \([^ ]*\).*/   \1/p; s/^Installing collected.*/   installing .../p; s/^Successfully.*/   done/p'
	@$(BIN)/python -c "import pykka, arvados, libcloud, sqlalchemy, uvicorn, rich, pytest"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

venv: $(STAMP) ## only make .venv, with the commands in .venv/bin

run: $(STAMP) ## run the example container requests on this machine, from nothing
	$(BIN)/arvados-node-manager --config $(CONFIG) --run etc/examples/

run-failures: $(STAMP) ## the same with requests that fail, wait and are cancelled (ends with status 1)
	$(BIN)/arvados-node-manager --config $(CONFIG) --run etc/examples/failures/

run-slurm: $(STAMP) ## the example requests on a Slurm of their own, whose nodes come and go (installs it as root)
	$(BIN)/python -m tests.clusters.demo etc/examples/ --state state/slurm

run-kubernetes: $(STAMP) ## the same on a Kubernetes of their own (built once, about 10 CPU minutes; pods are processes here)
	$(BIN)/python -m tests.clusters.kubernetes_build
	$(BIN)/python -m tests.clusters.demo_kubernetes etc/examples/ --state state/kubernetes

check: $(STAMP) ## validate the configuration and everything it can reach
	$(BIN)/arvados-node-manager --config $(CONFIG) --check

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP) lint ## everything: linters, then all tests
	$(BIN)/pytest

test-kubernetes: $(STAMP) ## build a Kubernetes (once, about 10 CPU minutes), then run the tests that need one
	$(BIN)/python -m tests.clusters.kubernetes_build
	$(BIN)/pytest -m kubernetes

bench: $(STAMP) ## what we claim about speed, measured here
	$(BIN)/python benchmarks/actors.py --sizes 1000 10000
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/api.py --sizes 1000 10000 --seconds 1
	$(BIN)/python benchmarks/packing.py --sizes 1000 20000
	$(BIN)/python benchmarks/schedulers.py --containers 300
	$(BIN)/python benchmarks/metrics.py

docs: $(STAMP) ## write the example config and the reference pages anew
	$(BIN)/python -m nodemanager.config --example > etc/nodemanager.cfg.example
	$(BIN)/python -m nodemanager.config --reference > docs/reference/configuration.md
	$(BIN)/python -m nodemanager.server.reference > docs/reference/api.md
	$(BIN)/python -m nodemanager.cli.reference > docs/reference/command-line.md
	$(BIN)/python -m nodemanager.reason.reference > docs/reference/reasons.md
	$(BIN)/python -m nodemanager.status.metrics_reference > docs/reference/metrics.md

site: $(STAMP) ## the documentation as a site, in build/site
	$(BIN)/sphinx-build -q -W -n --keep-going -b html docs build/site
	@echo "build/site/index.html"

man: $(STAMP) ## the manual pages, in build/man
	$(BIN)/sphinx-build -q -W -n --keep-going -b man docs build/man
	@ls build/man/*.[1-8]

dist: man ## wheel and source distribution with manual pages, in dist
	$(BIN)/python -c "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')" >/dev/null
	@ls dist

clean: ## remove the virtual environment, what was built, and the examples' state
	rm -rf $(VENV) build dist state .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
