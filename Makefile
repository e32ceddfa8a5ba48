# One vocabulary for people, pre-commit and CI. Needs Python 3.11 or newer (PYTHON=…) and make; everything else it installs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.synced

.DEFAULT_GOAL := help
.PHONY: help setup demo dev mlflow docs status test lint types imports dbt-checks pytest bench browser clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Install everything into .venv

# Compiling once saves every later process about 1.4 s of import.
$(STAMP): pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14'
	UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 $(BIN)/uv sync --locked --quiet
	@touch $@

demo: setup  ## Play half a year of real flights through the whole loop
	@$(BIN)/factory demo

dev: setup  ## Dagster UI with daemon on the same data, http://127.0.0.1:3000
	@$(BIN)/factory dev

mlflow: setup  ## MLflow UI, http://127.0.0.1:5000
	@$(BIN)/factory mlflow

docs: setup  ## dbt's documentation, http://127.0.0.1:8080
	@cd dbt_project && ../$(BIN)/dbt docs generate --quiet && ../$(BIN)/dbt docs serve --host 127.0.0.1 --port 8080 --no-browser

status: setup  ## How the model lines are
	@$(BIN)/factory status

test: lint types imports dbt-checks pytest  ## All checks and every test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

dbt-checks: setup
	$(BIN)/sqlfluff lint dbt_project --disable-progress-bar
	cd dbt_project && ../$(BIN)/dbt --quiet parse --target-path target

pytest: setup
	$(BIN)/python -m pytest

bench: setup  ## Ratios against a bare script, side by side; NAME=loop for one
	$(BIN)/python -m benchmarks $(NAME)

browser:  ## Install the browser that the UI test drives (Debian and its kin, as root)
	apt-get update -qq && apt-get install -y -qq chromium

clean:  ## Remove everything the factory wrote below data/
	find data -mindepth 1 -not -name README.md -delete
