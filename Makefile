# Everything runs in .venv, made on first use with the exact versions of constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# With two workers, tests that need the same server stay together.
PYTEST_ARGS ?= -n 2 --dist loadgroup -q

.PHONY: demo test lint types check bench bench-inference schemas clean

demo: $(VENV)/.demo
	$(BIN)/python -m scripts.demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check lineage tests scripts
	$(BIN)/ruff check lineage tests scripts

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.dev
	$(BIN)/python -m scripts.bench.run

# Thresholds were fitted on seeds 0 to 2; these are others. Built once, kept in .zoo.
SEEDS ?= 3
ZOOS = $(foreach s,$(SEEDS),.zoo/full-s$(s) .zoo/crowd-s$(s) .zoo/foreign-s$(s) .zoo/wild-s$(s))

bench-inference: $(VENV)/.dev $(ZOOS:%=%/truth.json)
	$(BIN)/python -m scripts.bench.inference $(ZOOS) --cache .zoo/cache

.zoo/full-s%/truth.json:
	$(BIN)/python -m scripts.zoo.build $(@D) --seed $*

.zoo/foreign-s%/truth.json:
	$(BIN)/python -m scripts.zoo.build $(@D) --size foreign --seed $*

.zoo/wild-s%/truth.json:
	$(BIN)/python -m scripts.zoo.build $(@D) --size wild --seed $*

.zoo/crowd-s%/truth.json:
	$(BIN)/python -m scripts.zoo.crowd $(@D) --seed $*

schemas: $(VENV)/.dev
	$(BIN)/python -m scripts.schemas
	$(BIN)/python -m scripts.cli_docs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "lineage needs Python 3.11 or newer"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[zoo]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo .zoo
