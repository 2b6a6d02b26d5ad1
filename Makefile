# Shortcuts; each target is a command that also works by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test lint types fixtures bench docs ci clean

install: $(BIN)/bncheck
$(BIN)/bncheck: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[dev]"
	@touch $@

test: install
	$(BIN)/pytest -n auto

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy --strict

fixtures: install
	$(BIN)/python fixtures/build.py

bench: install
	$(BIN)/python -m benchmarks.reading

docs: install
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

ci:
	.ci/run

clean:
	rm -rf .venv docs/_build docs/rules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
