# Every verb of the project. Needs GNU make, bash, Python 3.11 with pip, and a package index.
#   make demo                      set up, then fine-tune a real small model
#   make test                      set up, then pass every test
#   LOCK=env-cu128.lock make ...   the CUDA 12.8 stack, in an environment of its own
#   PY=python3 make gpu-test       an interpreter that is already equipped

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
LOCK ?= env.lock
VENV := $(if $(filter env.lock,$(LOCK)),.venv,.venv-$(LOCK:env-%.lock=%))
TOOLS := .tools
ARGS ?=
DOCKER ?= docker
BASE_IMAGE ?=

# What was installed is known by the content of the locks, not by file times.
key = $(shell cat $(1) | sha256sum | cut -c1-16)
TOOLS_DONE := $(TOOLS)/.done-$(call key,tools.lock)
SETUP_DONE := $(VENV)/.setup-$(call key,$(LOCK) pyproject.toml)
DEV_DONE := $(VENV)/.dev-$(call key,$(LOCK) pyproject.toml dev.lock)

ifeq ($(origin PY),undefined)
PY := $(VENV)/bin/python
READY := $(SETUP_DONE)
EQUIPPED := $(DEV_DONE)
endif

# uv takes seconds where pip takes minutes, but may not know this machine's certificates or index,
# which pip does: so the system's certificates, then uv's own, then pip. None may choose a version.
UV := $(TOOLS)/bin/uv
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PYTHONSAFEPATH := 1
unexport PYTHONPATH
QUIET := $(shell [ -t 2 ] || echo --quiet)
by_uv = $(UV) pip $(1) $(QUIET) --python $(VENV)/bin/python --require-hashes $(2)
by_pip = $(PYTHON) -m pip --python $(VENV)/bin/python install $(QUIET) --no-deps --require-hashes \
	-r $(lastword $(2))
put = { [ -x $(UV) ] && { UV_SYSTEM_CERTS=1 $(by_uv) || $(by_uv); }; } || \
	{ echo "uv could not; pip does it, which takes minutes ..." >&2; $(by_pip); }

.PHONY: help setup demo test check snapshots aot-test gpu-test bench lock docs rules-age sbom image image-smoke clean

help:
	@sed -n 's/^#   make/make/p' Makefile; echo "verbs: help setup demo test check snapshots aot-test gpu-test bench lock docs rules-age sbom image image-smoke clean"

setup: $(SETUP_DONE)
	@echo "ready: $(VENV)" >&2

demo: $(SETUP_DONE)
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(VENV)/bin/ftrun demo $(ARGS)

# Two files at a time, one thread each; then what measures time, alone and unobserved.
test: $(EQUIPPED)
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" OMP_NUM_THREADS=1 $(PY) -m pytest -m "not aot and not quiet" \
	    -n 2 --dist loadfile --cov --cov-report=term --cov-fail-under=90 $(ARGS)
	$(PY) -m pytest -m "quiet and not aot" $(ARGS)

check: $(EQUIPPED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/core/test_architecture.py tests/core/test_house.py

# Every screen of ftui drawn anew; look at the difference before it is committed.
snapshots: $(EQUIPPED)
	FTLAB_SNAPSHOTS=update $(PY) -m pytest -q tests/tui/test_snapshots.py $(ARGS)

aot-test: $(EQUIPPED)
	$(PY) -m pytest -m aot $(ARGS)

gpu-test: $(EQUIPPED)
	$(PY) -m pytest -m gpu $(ARGS)

bench: $(READY)
	PYTHONPATH=core:kernels $(PY) bench/$(if $(OPS),kernels $(OPS),train_step.py) $(ARGS)

docs: $(READY)
	PYTHONPATH=core:kernels $(PY) -m ftlab.docs docs

# The doctor's rules that nobody confirmed for a year.
rules-age:
	PYTHONPATH=doctor $(PYTHON) -m ftlab_doctor.rules

# Resolve every group of pyproject.toml again; pins that still fit stay (UPGRADE=--upgrade moves them).
lock: $(TOOLS_DONE)
	@resolve() { $(UV) pip compile --quiet --generate-hashes --python-version 3.11 \
	    --python-platform x86_64-manylinux_2_28 --no-emit-index-url \
	    --custom-compile-command "make lock" $(UPGRADE) --group "pyproject.toml:$$1" -o "$$2" "$${@:3}"; }; \
	before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; cp *.lock "$$before"; \
	resolve cu121 env.lock; resolve cu128 env-cu128.lock; resolve tools tools.lock; \
	resolve dev dev.lock -c env.lock -c env-cu128.lock; \
	for f in *.lock; do diff -U0 --label "old $$f" --label "new $$f" "$$before/$$f" "$$f" \
	    | grep -v 'hash=' || [ $$? -eq 1 ]; done; \
	if [ -n "$(CHECK)" ] && ! (for f in *.lock; do cmp -s "$$before/$$f" "$$f" || exit 1; done); then \
	    cp "$$before"/*.lock .; echo "the locks drift from pyproject.toml; make lock moves them" >&2; exit 4; fi; \
	echo "locks are resolved"

sbom:
	@mkdir -p build
	@for lock in env.lock env-cu128.lock; do \
	    $(PYTHON) container/sbom.py $$lock > build/sbom-$${lock%.lock}.json && echo build/sbom-$${lock%.lock}.json; done

# The image of $(LOCK). BASE_IMAGE=NAME builds on another base than the one the Dockerfile pins.
image:
	DOCKER="$(DOCKER)" LOCK="$(LOCK)" BASE_IMAGE="$(BASE_IMAGE)" PYTHON="$(PYTHON)" container/build $(ARGS)

image-smoke: $(EQUIPPED)
	DOCKER="$(DOCKER)" LOCK="$(LOCK)" PY="$(abspath $(PY))" container/smoke $(ARGS)

clean:
	rm -rf $(VENV) $(TOOLS) .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.*

$(TOOLS_DONE): tools.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	    { echo "the locks are made for Python 3.11; found: $$($(PYTHON) -V 2>&1). Set PYTHON=." >&2; exit 3; }
	rm -rf $(TOOLS); mkdir -p $(TOOLS)
	@echo "installing the installer (tools.lock) ..." >&2
	@install() { $(PYTHON) -m pip install --quiet --no-deps --require-hashes --only-binary=:all: \
	    --target $(TOOLS) -r "$$1"; }; \
	install tools.lock || { echo "uv cannot be had; plain pip is used, which takes minutes" >&2; \
	    rm -rf $(TOOLS); mkdir -p $(TOOLS); \
	    awk '/^[A-Za-z0-9]/ { keep = !/^uv==/ } keep' tools.lock > $(TOOLS)/without-uv.txt; \
	    install $(TOOLS)/without-uv.txt; }
	@touch $@

$(SETUP_DONE): $(TOOLS_DONE) $(LOCK) pyproject.toml
	@echo "installing $(LOCK) into $(VENV) (about 3 GB of downloads the first time) ..." >&2
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv --without-pip $(VENV)
	@rm -f $(VENV)/.setup-* $(VENV)/.dev-*
	@$(call put,sync,$(LOCK))
	@if [ -x $(UV) ]; then PYTHONPATH=$(CURDIR)/$(TOOLS) $(UV) pip install --quiet --offline --no-deps \
	    --no-build-isolation --python $(VENV)/bin/python --editable .; \
	else PYTHONPATH=$(CURDIR)/$(TOOLS) $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet \
	    --no-index --no-deps --no-build-isolation --editable .; fi
	@touch $@

$(DEV_DONE): $(SETUP_DONE) dev.lock
	@$(call put,install,--no-deps -r dev.lock)
	@touch $@
