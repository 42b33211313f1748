# `make run` and `make test` set up everything they need in .venv first.
# Settings: PYTHON (interpreter), TORCH (requirement), ARGS (passed to `assay run`), WORKERS (tests).
.DEFAULT_GOAL := help
.PHONY: help install run test test-long check format docs pictures browser audit clean
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= $(shell command -v python3 || command -v python)
TORCH ?= torch==2.13.0
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Telemetry of the tools is off, here and in everything started from here.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Create .venv and install the pinned dependencies

$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Use make PYTHON=..."; exit 2; }
	@if [ ! -x $(BIN)/python ]; then \
	  if $(PYTHON) -c 'import torch; assert torch.version.cuda' 2>/dev/null; then \
	    echo "Using the CUDA build of torch that $(PYTHON) already has."; \
	    $(PYTHON) -m venv --system-site-packages $(VENV); \
	  else $(PYTHON) -m venv $(VENV); fi; fi
	@echo "Installing the dependencies into $(VENV) (about two minutes, once) ..."
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install -q "$(TORCH)" -c constraints.txt
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

run: $(STAMP) ## Run the default experiment (ARGS="--seeds 3", ARGS="--set ...")
	@$(BIN)/assay run $(ARGS)

test: $(STAMP) browser ## Run the test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup

test-long: $(STAMP) browser ## Run the long tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup -m long --timeout=1800

check: $(STAMP) ## Lint, format and security rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/bandit -q -c pyproject.toml -r flows tasks xlstm_model docs

audit: ## Look the pinned dependencies up in the database of known weaknesses
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install -q pip-audit
	@.venv-audit/bin/python .ci/audit.py constraints.txt

format: $(STAMP) ## Apply the formatter
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## Write the pages that are made from the program
	@$(BIN)/python -m docs.generate.settings
	@$(BIN)/python -m docs.generate.questions
	@$(BIN)/python -m docs.generate.notices
	@$(BIN)/python -m benchmarks.reliability.page
	@$(BIN)/python -m docs.generate.index

pictures: $(STAMP) browser ## Take every picture of the docs (runs the default experiment and one variation)
	@$(BIN)/assay run
	@$(BIN)/python -m benchmarks.ui_pictures
	@$(BIN)/assay run --name gru-dropout --set train.gru.dropout=0.2
	@$(BIN)/python -m benchmarks.report_pictures project gru-dropout

browser: # the browser tests skip with a reason where this can't install one
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } \
	    >/dev/null 2>&1; } || echo "No Chromium found or installable: browser tests will be skipped."

clean: ## Delete the environment and every result
	@rm -rf $(VENV) data/raw data/prepared artifacts runs .assay
