# `make test` and `make demo` are all that a fresh clone needs: both create .venv and install first.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK = 1

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install test demo lint format clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

install: $(STAMP)  ## create .venv and install discdiff with its development tools

# Runs again only when what is to be installed has changed. Without --no-compile, a third of the time goes into byte
# code that is mostly never run.
$(STAMP): pyproject.toml constraints.txt
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { \
	    echo "error: cannot run '$(PYTHON)'. Name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 2; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: '$(PYTHON)' is Python $$version, discdiff needs 3.11 or newer." \
	         "Name another: make PYTHON=python3.12" >&2; exit 2; }; \
	if [ ! -x $(BIN)/python ]; then \
	    echo "==> creating $(VENV) with Python $$version"; \
	    $(PYTHON) -m venv $(VENV); \
	fi
	@echo "==> installing discdiff and its dependencies into $(VENV)" \
	      "(1.5 GB, some minutes the first time; log: $(VENV)/install.log)"
	@start=$$SECONDS; \
	$(BIN)/python -m pip install --no-compile --progress-bar off -c constraints.txt -e '.[dev]' 2>&1 \
	    | tee $(VENV)/install.log \
	    | awk '/^Collecting/ && ++n % 20 == 0 { print "    " n " packages found" } \
	           /^Installing collected/ { print "    unpacking" } \
	           /^ *(ERROR|error|[A-Za-z]*Error):/ { print } { fflush() }' || { \
	    echo "error: the installation failed; $(VENV)/install.log has the whole story" >&2; exit 1; }; \
	echo "==> installed in $$((SECONDS - start)) s"
	@touch $@

test: $(STAMP)  ## lint, check types, run the tests
	@echo "==> 1/4 ruff check"
	@$(BIN)/ruff check .
	@echo "==> 2/4 ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> 3/4 mypy (a minute the first time)"
	@$(BIN)/mypy
	@echo "==> 4/4 pytest on $(WORKERS) workers"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --durations=10

demo: $(STAMP)  ## train a small molecule model, sample, infill, write demo/report.html
	@echo "==> training, sampling and infilling molecules (at most 6 minutes on 2 cores)"
	@$(BIN)/python examples/demo.py --output demo/report.html

lint: $(STAMP)  ## ruff and mypy only
	@echo "==> ruff check, ruff format --check, mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP)  ## let ruff fix and format everything
	@echo "==> ruff check --fix, ruff format"
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove caches, builds and the demo's output; .venv stays
	@echo "==> removing caches, build/, dist/, demo/"
	@rm -rf build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
	@find discdiff domains tests examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
