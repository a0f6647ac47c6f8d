# Every target sets itself up from a bare machine with make, Python 3.11 or newer, and pip.
# What is installed is kept in .venv; a stamp file there says for which requirements.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := mlflow,gx,lineage,validation,postgres,awskms,tsa,aws,gcp,azure
STAMP := $(VENV)/.installed
LONG_STAMP := $(VENV)/.installed-long
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-long mutate lint bench verifier clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

$(STAMP): pyproject.toml constraints/py311.txt constraints/install.py
	@$(PYTHON) constraints/install.py $(VENV) $(EXTRAS)
	@touch $@

$(LONG_STAMP): $(STAMP)
	@$(PYTHON) constraints/install.py $(VENV) $(EXTRAS) long
	@touch $@

demo: $(STAMP)  ## One credit model, governed end to end on a live Airflow; a few minutes
	@$(BIN)/python -m demo.run

up: $(STAMP)  ## Start the demo's Airflow and MLflow, and leave them at the waiting gate
	@$(BIN)/python -m demo.up

down: $(STAMP)  ## Stop what `up` has started
	@$(BIN)/python -m demo.up down

test: $(STAMP)  ## Unit, integration and end-to-end tests, the last on a live Airflow
	@$(BIN)/python -m pytest tests/unit tests/integration -n $(WORKERS)
	@$(BIN)/python -m pytest tests/e2e

test-long: $(LONG_STAMP)  ## Ledger and live Airflow killed at every point, FAB users, the deployment, extras; takes minutes
	@$(BIN)/python -m pytest tests/long

mutate: $(STAMP)  ## Change code of verifier and controls in every small way and see tests fail; MODULES=merkle,proof for some
	@MODULES="$(MODULES)" $(BIN)/python tests/mutation/run.py

lint: $(STAMP)  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP)  ## Ratios against doing without us, into .bench/results.json
	@$(BIN)/python tests/bench/run.py

verifier:  ## The one file that an auditor runs, into dist/mlgov-verify.pyz; needs Python only
	@$(PYTHON) verifier/build.py dist/mlgov-verify.pyz

clean:  ## Remove what the other targets have made
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m demo.up down; fi
	@rm -rf $(VENV) $(VENV)-uv .demo .up .bench build dist
