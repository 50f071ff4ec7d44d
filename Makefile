# Every verb sets up what it needs. Start with `make demo` and `make test-fast`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
READERS := mosaicml-streaming Brotli zstd python-snappy cramjam catalogue litdata obstore tifffile megatron-core
DEMO := jobs/recipes/demo/demo.yaml
ENGINE ?= local
# Two processes. Each test file goes to one of them, and everything with Ray to the first, one after the other.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder
export HF_HUB_OFFLINE ?= 1
# Where this is set, as containers like to, each of the hundreds of processes of the tests compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE
# One thread a process: two processes whose matrix products take two threads each wait for one another.
test test-fast: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test-fast test lint format docs bench soak evaluate experiment clean

help:
	@awk '/^## / {print "\n" substr($$0, 4)} /^[a-z-]+:.*## / {split($$0, a, ":.*## "); printf "  make %-10s %s\n", a[1], a[2]}' \
		$(firstword $(MAKEFILE_LIST))

## Try it

demo: $(READY)  ## build a mixture of a small corpus, prove it, write its report (ENGINE=ray: on Ray)
	@$(BIN)/chameleon-data build $(DEMO) --engine $(ENGINE)
	@$(BIN)/chameleon-data verify out/demo
	@echo "report: $$($(BIN)/chameleon-data report out/demo 2>/dev/null)"
	@printf '\nnext:\n'
	@echo "  $(BIN)/chameleon-data init FOLDER         # a first recipe for your own files, which lie in FOLDER"
	@echo "  $(BIN)/chameleon-data build FOLDER.yaml   # then verify and report, as above"
	@echo "  $(BIN)/chameleon-data evaluate out/demo   # what the demo's weights do to a language model, in a minute"

## Work on it

setup: $(READY)  ## make .venv with every package pinned (1 to 3 minutes, once; the other verbs do it too)

test-fast: $(READY)  ## run the tests that need no Ray, no browser and no model (about a minute)
	@$(PYTEST) --quiet --hypothesis-profile quick -m "not ray and not server" tests/unit tests/contract tests/test_*.py

test: $(READY)  ## run all tests (about 15 minutes)
	@$(PYTEST)

lint: $(READY)  ## check style, format and types, and the packages for known vulnerabilities where the index can be asked
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.audit

format: $(READY)  ## put the code into its format
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

docs: $(READY)  ## make the documentation from its pages and from the code, in build/docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --conf-dir docs . build/docs
	@echo "build/docs/index.html"

## Measure it

bench: $(READY)  ## print the table of figures (25 minutes)
	@$(BIN)/python -m tests.bench

soak: $(READY)  ## kill, break, flip, race and fuzz it for an hour; SOAK_MINUTES=1 shortens the fuzzing from 60
	@$(BIN)/python -m tests.soak

evaluate: $(READY)  ## judge mixtures of the demo, and what needs no other text (six minutes)
	@for name in demo cost; do $(MAKE) --no-print-directory experiment NAME=$$name || exit 1; done
	@for name in synthetic imbalance added stability; do $(BIN)/python -m chameleon_data.jobs.experiments.weights_$$name || exit 1; done
	@$(MAKE) --no-print-directory experiment NAME=demo JUDGE=decoder

experiment: $(READY)  ## run one experiment: NAME=pretraining CORPORA=folder JUDGE=decoder SEEDS=9; results in out/experiments
	@mkdir -p out/experiments
	@$(BIN)/python -m chameleon_data.jobs.experiments $(NAME) $(if $(CORPORA),--corpora $(CORPORA)) $(if $(JUDGE),--judge $(JUDGE)) \
		$(if $(SEEDS),--seeds $(SEEDS)) > out/experiments/$(NAME)$(if $(JUDGE),-$(JUDGE)).json
	@echo "out/experiments/$(NAME)$(if $(JUDGE),-$(JUDGE)).json"

## Remove it

clean:  ## remove .venv and out
	rm -rf .venv out

# torch first, by pip and by itself: the others then accept the pinned version as it is, while uv alone would look for one with
# CUDA. Then uv for the rest, or pip where uv cannot be had. The official readers are for tests only; they come without what they
# would bring (torchvision, five cloud SDKs). Why: docs/decisions/091-setup-with-uv.md.
$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv, once; a minute with uv, three with pip"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) torch
	@{ $(PIP) uv && $(UV) --editable '.[dev]' && $(UV) --no-deps $(READERS); } \
		|| { echo "once more, with pip alone" && $(PIP) --editable '.[dev]' && $(PIP) --no-deps $(READERS); }
	@touch $@
