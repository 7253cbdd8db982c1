# Lodestar. `make serve` and `make test` set up everything they need in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Settings of `make serve`; the same names as `lodestar serve --help`.
HOST      ?= 127.0.0.1
PORT      ?= 8000
WORKERS   ?= 1
DATA_DIR  ?= data
REDIS_URL ?=

export HF_HUB_OFFLINE ?= 0
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-all e2e chaos fuzz soak check format bench pictures clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lodestar needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "setup 1/3  virtual environment in $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is incomplete here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setup 2/3  pip"
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "setup 3/3  dependencies (the first time takes some minutes: PyTorch is large)"
	@$(BIN)/pip install --disable-pip-version-check --progress-bar on --quiet --editable . --group dev
	@touch $@

serve: $(STAMP) ## start API, queue and workers; stop with Ctrl-C
	@REDIS_URL='$(REDIS_URL)' exec $(BIN)/lodestar serve --host '$(HOST)' --port '$(PORT)' --workers '$(WORKERS)' --data-dir '$(DATA_DIR)'

test: $(STAMP) ## run the tests (browser tests run where Chromium is installed)
	@$(BIN)/python -m pytest -m 'not slow'

test-all: $(STAMP) ## run the slow tests too
	@$(BIN)/python -m pytest

e2e: $(STAMP) ## run every test on a whole service and in a real browser, the long ones too
	@$(BIN)/python -m pytest tests/e2e

chaos: $(STAMP) ## break the service in every way we know of, and count what becomes of its jobs
	@$(BIN)/python -m pytest tests/chaos

fuzz: $(STAMP) ## send a live service 20,000 requests made from openapi.json, with every check of schemathesis
	@$(BIN)/python -m pytest tests/e2e/test_fuzz.py -s

soak: $(STAMP) ## an hour of steady traffic: does memory stay flat?
	@$(BIN)/python -m benchmarks.soak

check: $(STAMP) ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(STAMP) ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## exactness, the engine against diffusers, the service against the engine, the queue
	@for name in exactness overhead engine service_overhead queue; do $(BIN)/python -m benchmarks.$$name || exit 1; done

pictures: $(STAMP) ## make docs/images anew with the built-in model (needs Chromium)
	@$(BIN)/python -m docs.pictures

clean: ## remove .venv and caches (never data/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
