# One word each: make demo, make test, make check, make fuzz, make bench, make chaos, make lock. Needs make, Python 3.11
# or later with venv, and a package index; no root, no Docker, no Java. ARGS goes to the program: make demo ARGS="--keep".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Given, or the first of these that really is Python 3.11 or later (a name on the path may be an empty shim).
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$name" && break; done; true)
ARGS ?=
EVENTS ?= 10000
DURATION ?= 60
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# What develop.txt holds includes what demo.txt holds, in the same versions: who has the first needs no second.
DEMO := $(if $(wildcard $(VENV)/develop.installed),$(VENV)/develop.installed,$(VENV)/demo.installed)

.PHONY: help demo test check fuzz audit bench chaos lock lock-kafka clean

help:
	@echo 'make demo    see it work: Kafka, a stand-in for Graph and the service, on this machine (ARGS="--calls 50")'
	@echo 'make test    every test, with a real Kafka (ARGS="-k lane")'
	@echo 'make check   style, types, direction of imports'
	@echo 'make fuzz    every fuzz target for a minute (ARGS="record --seconds 600")'
	@echo 'make audit   asks PyPI for known vulnerabilities of what is locked (ARGS="-s osv": the OSV database)'
	@echo 'make bench   the benchmarks'
	@echo 'make chaos   kills, freezes and cuts off everything, then judges (EVENTS=10000 DURATION=60 SEED=1 REPORT=file.md)'
	@echo 'make lock    writes requirements/ anew from pyproject.toml'
	@echo 'make clean   removes .venv and what tools left'

demo: $(DEMO)
	@$(BIN)/callstream demo $(ARGS)

test: $(VENV)/develop.installed
	@$(BIN)/pytest $(ARGS)

check: $(VENV)/develop.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports

fuzz: $(VENV)/develop.installed
	@$(BIN)/python -m tests.fuzz $(ARGS)

# develop.txt holds all that demo.txt and runtime.txt hold, in the same versions. --strict: what the service does not know
# is no pass. Needs PyPI itself (or OSV): a mirror that serves packages alone knows of no vulnerabilities.
audit:
	@'$(PYTHON)' -m venv build/audit
	@build/audit/bin/python -m pip --quiet --disable-pip-version-check install pip-audit
	@build/audit/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
		-r requirements/develop.txt -r requirements/build.txt $(ARGS)

bench: $(VENV)/develop.installed
	@$(BIN)/python -m bench $(ARGS)

chaos: $(VENV)/develop.installed
	@$(BIN)/python -m tests.chaos --events $(EVENTS) --duration $(DURATION) --seed $(SEED) \
		$(if $(REPORT),--report '$(REPORT)') $(ARGS)

# The environment is made once; a changed lock installs into it what differs.
$(VENV)/%.installed: requirements/%.txt requirements/build.txt | $(VENV)/bin/python
	@echo 'Installing requirements/$*.txt into $(VENV)'
	@$(PIP) install --require-hashes -r requirements/build.txt -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/bin/python:
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Python 3.11 or later is needed and none is on the path: install one, or say make PYTHON=/path/to/python.' >&2; exit 1; fi
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo '$(PYTHON) is not Python 3.11 or later: say make PYTHON=/path/to/python of a newer one.' >&2; exit 1; }
	@'$(PYTHON)' -c 'import venv, ensurepip' 2>/dev/null || { \
		echo '$(PYTHON) comes without venv: install it (Debian and Ubuntu: apt install python3-venv), or say make PYTHON=… of another.' >&2; exit 1; }
	@'$(PYTHON)' -m venv $(VENV)

# Every lock takes its versions from develop.txt, the largest. --universal: one file for each system and Python.
COMPILE = build/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock:
	@'$(PYTHON)' -m venv build/lock
	@build/lock/bin/python -m pip --quiet --disable-pip-version-check install uv
	@$(COMPILE) $(ARGS) pyproject.toml --extra check -o requirements/develop.txt
	@$(COMPILE) pyproject.toml --extra embedded -c requirements/develop.txt -o requirements/demo.txt
	@$(COMPILE) pyproject.toml --extra azure -c requirements/develop.txt -o requirements/runtime.txt
	@$(COMPILE) requirements/build.in -c requirements/develop.txt -o requirements/build.txt

# The jars of another Kafka: make lock-kafka ARGS=4.4.0, then KAFKA_VERSION in service/embedded/jars.py.
lock-kafka: $(DEMO)
	@$(BIN)/python -m service.embedded.lock $(ARGS)

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
