# Nothing needs to be installed by hand: every target makes the environment first when it is missing.
#   make quickstart   the whole loop on this machine: reward model, aligned generator, report
#   make test         ruff, mypy and every test that needs no GPU
#   make test-fast    the unit and contract tests that take seconds
#   make lint         ruff and mypy only
#   make format       let ruff rewrite the files
# PYTHON chooses the interpreter (3.10-3.13), VENV where the environment lies, JOBS how many tests run at once.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
ARGS   ?=

RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.mmalign-installed
PYTEST := $(RUN) -m pytest -n $(JOBS) --dist loadfile -p no:cacheprovider

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: quickstart install test test-fast test-gpu lint format clean

quickstart: $(STAMP)
	OMP_NUM_THREADS= $(RUN) -m mmalign quickstart $(ARGS)

install: $(STAMP)

# Installed again only when pyproject.toml changes.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else "mmalign needs Python 3.10-3.13, and $(PYTHON) is " + sys.version.split()[0] + ": name another one, for example make PYTHON=python3.12")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing mmalign and its libraries into $(VENV) (a few minutes the first time)"
	$(RUN) -m pip install --editable '.[dev,clip,ocr]'
	@touch $@

test: lint
	$(PYTEST) -m "not gpu" $(ARGS)

test-fast: $(STAMP)
	$(PYTEST) -m "not gpu and not slow" tests/unit tests/contract tests/test_layers.py $(ARGS)

test-gpu: $(STAMP)
	$(RUN) -m pytest -m gpu $(ARGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf runs .mypy_cache .ruff_cache .pytest_cache build dist
