# One vocabulary for people, pre-commit and CI. Needs Python 3.11 or newer (PYTHON=…) and make; everything else it installs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.synced

.DEFAULT_GOAL := help
.PHONY: help setup demo dev mlflow docs status test lint types imports dbt-checks pytest bench browser delta-reader evidently azurite node clean

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
	@$(BIN)/factory docs

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

pytest: setup delta-reader evidently azurite
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup  ## Ratios against a bare script, side by side; NAME=loop for one
	$(BIN)/python -m benchmarks $(NAME)

# Another implementation of Delta, in an environment of its own: the newest DuckDB has no Delta extension.
READER := .cache/delta-reader
READER_PACKAGES := duckdb==1.5.5 duckdb-extension-delta==1.5.5

delta-reader: $(READER)/.installed  ## Install the independent Delta reader that the tests compare with

$(READER)/.installed: Makefile | setup
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(READER)
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(READER)/bin/python $(READER_PACKAGES) || { \
	  echo "make delta-reader: $(READER_PACKAGES) cannot be installed from the configured package indexes, and the tests that compare with them cannot run" >&2; exit 1; }
	@touch $@

# A drift library of others, in an environment of its own: it does not run beside pandas 3.
EVIDENTLY := .cache/evidently
EVIDENTLY_PACKAGES := 'evidently==0.7.23' 'pandas<3'

evidently: $(EVIDENTLY)/.installed  ## Install the drift library that the tests compare values with

$(EVIDENTLY)/.installed: Makefile | setup
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(EVIDENTLY)
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(EVIDENTLY)/bin/python $(EVIDENTLY_PACKAGES) || { \
	  echo "make evidently: $(EVIDENTLY_PACKAGES) cannot be installed from the configured package indexes, and the tests that compare with them cannot run" >&2; exit 1; }
	@touch $@

# A stand-in for Azure's storage; the one for S3 is a Python package. Needs Node.js and npm.
AZURITE := .cache/azurite
AZURITE_PACKAGE := azurite@3.35.0

azurite: $(AZURITE)/.installed  ## Install the stand-in for Azure storage that the tests use

$(AZURITE)/.installed: Makefile
	@command -v npm >/dev/null || { echo "make azurite: npm is not installed (Debian: apt-get install nodejs npm), and the tests against Azure storage cannot run" >&2; exit 1; }
	@mkdir -p $(AZURITE)
	@npm install --prefix $(AZURITE) --ignore-scripts --no-audit --no-fund --no-save --loglevel error $(AZURITE_PACKAGE) >/dev/null || { \
	  echo "make azurite: $(AZURITE_PACKAGE) cannot be installed from the configured npm registry, and the tests against Azure storage cannot run" >&2; exit 1; }
	@touch $@

browser:  ## Install the browser that the UI test drives (Debian and its kin, as root)
	apt-get update -qq && apt-get install -y -qq chromium

node:  ## Install Node.js and npm, which azurite runs on (Debian and its kin, as root)
	apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm

clean:  ## Remove everything the factory wrote below data/
	find data -mindepth 1 -not -name README.md -delete
