# Two commands are enough: `make demo` and `make test`. Both make a virtual environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-compiled hunt check lint types clean

demo: $(VENV)/.installed
	$(BIN)/mesh demo

test: $(VENV)/.tested
	$(BIN)/python -m pytest

# The tests on the compiled protocol (setup.py), but for those that replace code while it runs. Minutes of a C compiler come first.
COMPILED = build/compiled
COMPILED_TESTS ?= tests
test-compiled: $(COMPILED)/.built
	cd $(COMPILED) && $(abspath $(BIN))/python -m pytest $(COMPILED_TESTS)

$(COMPILED)/.built: $(VENV)/.dev $(shell git ls-files 2>/dev/null)
	rm -rf $(COMPILED)
	mkdir -p $(COMPILED)
	git ls-files -z | xargs -0 cp --parents -t $(COMPILED)
	cd $(COMPILED) && GOSSIPMESH_COMPILE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	touch $@

# The same tests with examples that were never drawn before.
hunt: $(VENV)/.tested
	$(BIN)/python -m pytest --hypothesis-profile=hunt

check: test lint types

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Debian ships venv apart from Python: fetch it where it is missing.
$(VENV)/bin/python:
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/install-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
