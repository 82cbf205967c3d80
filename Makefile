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

# An ordinary install, not an editable one: what runs here is what a user gets.
$(VENV)/.installed: pyproject.toml CMakeLists.txt $(SOURCES) $(shell find edge_claid -name '*.py' -o -name '*.toml')
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo-output
