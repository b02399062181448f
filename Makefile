# Needs Python 3.11+ and make; makes everything else itself, in .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test check bench format lock clean
.DEFAULT_GOAL := demo

demo: .venv/run.stamp            ## talk to the bot here and now: no account, no key
	@$(BIN)/threadbot demo

test: .venv/dev.stamp            ## the tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/dev.stamp           ## the whole gate: format, lint, types, imports, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: .venv/dev.stamp           ## measure; prints one report
	$(BIN)/python -m tests.bench

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/bin/python           ## renew both lock files
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		pyproject.toml --extra all --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		pyproject.toml --extra all --group build --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .threadbot

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Threadbot needs Python 3.11 or newer on PATH." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: requirements-dev.lock pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes -r requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
