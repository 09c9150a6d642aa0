# Everything runs in the virtual environment .venv, which "make install" makes from the pinned set in constraints.txt.
# Another Python (3.11 or later):  make install PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
TOOLS := .venv-tools
TOOLS_INSTALLED := $(TOOLS)/.installed

.PHONY: help install tools demo test test-slow check clean

help:
	@echo "make install    virtual environment in .venv with the pinned set, and mgc in .venv/bin"
	@echo "make tools      the programs that read our files (MultiQC, taxpasta, AMBER, OPAL) in .venv-tools, for the tests"
	@echo "make demo       cut reads, train, evaluate, call real reads; a few minutes on two cores"
	@echo "make test       all tests but the slow ones"
	@echo "make test-slow  the tests that take minutes, or gigabytes of memory"
	@echo "make check      lint, format and types"
	@echo "make clean      remove what the other targets left, except .venv and .venv-tools"

install: $(INSTALLED)

# The stamp comes last, so an install that broke off is done again.
$(INSTALLED): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --constraint constraints.txt --editable '.[quantization,ray,serve,tensorboard,dev]'
	touch $@

tools: $(TOOLS_INSTALLED)

# An environment of their own, since they pin older libraries; see requirements-tools.txt.
$(TOOLS_INSTALLED): requirements-tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --no-deps --requirement requirements-tools.txt
	touch $@

demo: install
	$(VENV)/bin/python scripts/demo.py

# Many tests start processes of their own; with one thread each they leave the cores to one another.
test: install tools
	OMP_NUM_THREADS=1 MGC_TOOLS=required $(VENV)/bin/python -m pytest -m "not slow" -n auto --maxprocesses 4

test-slow: install
	$(VENV)/bin/python -m pytest -m slow

check: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

clean:
	rm -rf demo_output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
