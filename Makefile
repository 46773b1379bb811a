# make install     a virtual environment in .venv with everything pinned (TORCH_INDEX=URL: another PyTorch build)
# make demo        the ready sweep `laptop`: minutes on two cores
# make check test  what continuous integration runs
# make benchmark   the comparisons that the README quotes

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# Tests that only compute; they run beside those that start Ray, servers and drivers and wait for them.
COMPUTING := tests/search_spaces $(addprefix tests/orchestrator/,laws proposals report simulation tables)
BENCHMARKS := $(sort $(wildcard tests/benchmarks/*.py))

.PHONY: install demo test test-computing test-running check benchmark $(BENCHMARKS)

install: $(STAMP)

# --no-deps, because an index of PyTorch builds has not our versions of what PyTorch needs.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 install")'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/scalesweep run laptop

test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 test-computing test-running

test-computing: $(STAMP)
	$(BIN)/python -m pytest $(COMPUTING)

test-running: $(STAMP)
	$(BIN)/python -m pytest tests $(COMPUTING:%=--ignore=%)

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(BENCHMARKS)

$(BENCHMARKS): $(STAMP)
	$(BIN)/python $@
