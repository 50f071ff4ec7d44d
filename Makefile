# Every verb sets up what it needs. Start with `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := jobs/recipes/demo/demo.yaml
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench soak clean

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with everything pinned in it (about 3 minutes, once)

# torch first and by itself: the pinned version is the one that other packages then accept as it is. mosaicml-streaming, litdata
# and megatron-core are the official readers of their formats, for tests only, and without what they would bring (torchvision,
# five cloud SDKs).
$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv, once; about 3 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) torch
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps mosaicml-streaming Brotli zstd python-snappy cramjam catalogue
	@$(PIP) --no-deps litdata obstore tifffile megatron-core
	@touch $@

demo: $(READY)  ## build, prove and report a mixture of the small corpus in jobs/recipes/demo
	@$(BIN)/chameleon-data build $(DEMO)
	@$(BIN)/chameleon-data verify out/demo
	@echo "report: $$($(BIN)/chameleon-data report out/demo 2>/dev/null)"

test: $(READY)  ## run the tests
	@$(BIN)/python -m pytest

lint: $(READY)  ## ruff, mypy --strict on chameleon_data, and pip-audit where the index can be asked
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.audit

bench: $(READY)  ## print the table of figures (about 15 minutes)
	@$(BIN)/python -m tests.bench

soak: $(READY)  ## kill, break, flip, race and fuzz it for an hour; SOAK_MINUTES=1 shortens the fuzzing from 60
	@$(BIN)/python -m tests.soak

clean:  ## remove .venv and out
	rm -rf .venv out
