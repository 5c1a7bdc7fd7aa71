# Everything below sets up what it needs: a machine with Python >= 3.11 is enough.
PYTHON ?= python3
VENV := .venv
PYTHONS := .venv-pythons
RUN := $(VENV)/bin/

.DEFAULT_GOAL := help

.PHONY: help setup demo test quick pythons lowest check format bench docs clean

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)pip install --quiet --upgrade 'pip>=25.1'
	$(RUN)pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

setup: $(VENV)/.ready  ## Create the virtual environment

demo: setup  ## Watch a small shop emit events into a real OpenSearch, and find them again
	$(RUN)audit-logging demo

check: setup  ## Format, lint, types, import order, generated files
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)python docs/generate.py --check

format: setup  ## Format and mend what can be mended
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

quick: setup  ## The fast tests, without a server (under a minute)
	$(RUN)python -m pytest -q -m "not server and not slow" -n 2

test: check  ## Everything, against real OpenSearch servers, with coverage
	$(RUN)coverage erase
	$(RUN)coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	$(RUN)coverage combine -q
	$(RUN)coverage report

$(PYTHONS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PYTHONS)
	$(PYTHONS)/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(PYTHONS)/bin/pip install --quiet --group pythons
	@touch $@

pythons: $(PYTHONS)/.ready  ## The fast tests on every supported Python that is installed
	PATH="$(CURDIR)/$(PYTHONS)/bin:$$PATH" $(PYTHONS)/bin/nox --session pythons

lowest: $(PYTHONS)/.ready  ## The fast tests with the lowest allowed version of each dependency
	PATH="$(CURDIR)/$(PYTHONS)/bin:$$PATH" $(PYTHONS)/bin/nox --session lowest

docs: setup  ## Regenerate the generated pages
	$(RUN)python docs/generate.py

bench: setup  ## Measure, side by side with the alternatives (one alone: make bench NAME=emit)
	$(RUN)python -m bench $(NAME)

clean:  ## Remove what was made here
	rm -rf $(VENV) $(PYTHONS) .nox build dist .coverage* htmlcov .hypothesis .mypy_cache .ruff_cache .pytest_cache
