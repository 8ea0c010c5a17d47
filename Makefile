# Everything runs from .venv, which is made on first use. `make` alone lists the targets.

PYTHON ?= python3
UPSTREAM ?= sandbox
# `make up PROFILE=postgres` keeps history and warehouse in a PostgreSQL of its own.
PROFILE ?=
VENV := .venv/.complete
# Beside what runs: tests, lint, types. Apart, because they are half of the packages and a first `make run` needs none.
DEV := .venv/.complete-dev
PROFILED := $(if $(filter postgres,$(PROFILE)),.venv/.complete-postgres)
# What `make bench` compares with, in an environment of its own.
PEERS := .venv-peers/.complete
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run up test cover e2e check bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV) ## refresh every enabled source once, from the bundled sandbox (UPSTREAM=live: the real hosts)
	@REFRESH_UPSTREAM=$(UPSTREAM) $(BIN)/refresh run --all

up: $(VENV) $(PROFILED) ## serve the Dagster UI (3000), the API (8087) and the sandbox (8088) until Ctrl-C (UPSTREAM=live: no sandbox)
	@REFRESH_UPSTREAM=$(UPSTREAM) PROFILE=$(PROFILE) deploy/up.sh

test: $(DEV) ## all tests that need no daemon
	@$(BIN)/pytest -n 2 --dist worksteal -m "not e2e"

cover: $(DEV) ## the same with branch coverage, which takes twice as long
	@$(BIN)/pytest --cov --cov-report=term -n 2 --dist worksteal -m "not e2e"

# Three at once on two cores: most of their time is waiting for minutes to pass.
e2e: $(DEV) ## the tests that start live daemons and whole processes
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m e2e

check: $(DEV) ## lint, format, types, import layers and the catalogue
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/refresh check

# About an hour on two cores that do nothing else; ONLY=load,cold and ROUNDS=3 narrow it. Misses are no errors.
bench: $(DEV) $(PEERS) ## measure speed against peers, about an hour (ONLY=load,cold ROUNDS=3); table in benchmarks/results
	@$(BIN)/python -m benchmarks.bench --only "$(ONLY)" --rounds $(or $(ROUNDS),5)

lock: ## pin all dependencies anew in requirements.lock (needs uv; ARGS=--upgrade moves every pin)
	@deploy/lock.sh $(ARGS)

$(PEERS): benchmarks/peers/requirements.txt deploy/venv-peers.sh
	@PYTHON="$(PYTHON)" deploy/venv-peers.sh
	@touch $@

clean: ## remove .venv and caches; data/ stays
	@rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* build *.egg-info
	@find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +

# The stamps are written last, so that an interrupted installation is taken up again by the next make.
$(VENV): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" deploy/venv.sh
	@touch $@

$(DEV): $(VENV)
	@PYTHON="$(PYTHON)" deploy/venv.sh dev
	@touch $@

.venv/.complete-postgres: $(VENV)
	@PYTHON="$(PYTHON)" deploy/venv.sh postgres
	@touch $@
