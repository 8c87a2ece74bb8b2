# Two commands do everything: `make run` serves an example, `make test` runs what CI runs. All of it lands in .venv.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
EXAMPLE ?= examples/shopping_cart
PYTEST_FLAGS ?= -n auto --maxprocesses=4 --dist worksteal
# What npm installs for the tests: the real clients, and what pages load. Without npm the tests that need it are skipped.
NPM_LOCKS := $(wildcard examples/*/package-lock.json) tests/clients/package-lock.json
npm_installed = $(if $(shell command -v npm),$(1:%/package-lock.json=%/node_modules/.package-lock.json))

.PHONY: help run test check bench soak torture format pins clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: $(VENV)/.run $(call npm_installed,$(wildcard $(EXAMPLE)/package-lock.json)) ## serve an example (EXAMPLE=examples/counter for another one)
	$(BIN)/stead dev $(EXAMPLE)

test: check $(call npm_installed,$(NPM_LOCKS)) ## everything CI runs: check, then the tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: $(VENV)/.dev ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if command -v node >/dev/null; then set -x; $(BIN)/pyright; \
	elif [ "$${CI:-}" = true ]; then echo "pyright needs node, and CI must not skip it: install nodejs" >&2; exit 1; \
	else echo "skipped: pyright (needs node on the PATH)"; fi
	$(BIN)/lint-imports

bench: $(VENV)/.bench ## measure Stead beside what people would use instead (BENCH_FLAGS=--help for the choices)
	@benchmarks/prepare.sh
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

soak: $(VENV)/.dev ## 500 sockets in 20 rooms for a minute, every message counted (SOAK_FLAGS=--help for the choices)
	$(BIN)/python -m tests.soak $(SOAK_FLAGS)

torture: $(VENV)/.dev ## 3 minutes of faults against 3 nodes and PostgreSQL, then 30 s without it, every answer checked (TORTURE_FLAGS=--help for the choices)
	$(BIN)/python -m tests.torture $(TORTURE_FLAGS)
	STEAD_TORTURE=1 $(BIN)/python -m pytest -q tests/torture
	STEAD_TEST_OUTAGE_S=30 $(BIN)/python -m pytest -q -s tests/postgres/test_faults.py -k is_gone

format: $(VENV)/.dev ## rewrite the sources the way check wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pins: $(VENV)/.dev $(VENV)/.bench ## write the versions in .venv to constraints.txt
	@head -n 1 constraints.txt > $(VENV)/pins
	@$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | LC_ALL=C sort -f >> $(VENV)/pins
	@mv $(VENV)/pins constraints.txt

clean: ## remove .venv and what the tools left behind
	rm -rf $(VENV) $(NPM_LOCKS:%/package-lock.json=%/node_modules) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build

# A stamp is newer than what it was made from, so a second run installs nothing.
$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.dev $(VENV)/.run

$(VENV)/.run: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[yjs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[bench]'
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# A name on the PATH proves nothing (pyenv puts shims there), so each candidate has to run.
$(VENV)/.made:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	            echo "$$python has no venv module: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; fi; \
	        echo "making $(VENV) with $$($$python --version)"; \
	        $$python -m venv $(VENV) && touch $@ && exit 0; exit 1; \
	    fi; \
	done; \
	echo "Stead needs Python 3.11 or newer, and none was found: install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1
