# Two commands on a fresh machine: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = $(shell find edge_claid/ops/cpu -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name 'CMakeLists.txt')

.PHONY: demo test lint types install clean

demo: $(VENV)/.installed
	$(BIN)/python samples/demo.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy

install: $(VENV)/.installed

# Editable, because Python started here finds the sources first, and the compiled parts are not among them.
$(VENV)/.installed: pyproject.toml CMakeLists.txt $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo-output
