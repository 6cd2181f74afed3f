# Every target works in .venv, which the first one to need it creates from constraints.txt. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?= --out runs/demo

PY = $(VENV)/bin/python
STAMP = $(VENV)/.installed
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
TYPED = -p scweave.graphs -p scweave.generators -p scweave.models -p scweave.interpret -p scweave.commands -m scweave.cli -m scweave.train

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint style types format wheel clean

# Install anew where the checkout was moved (the environment points to its old place) or the environment's Python is gone.
ifneq ($(shell $(PY) -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) WORKERS=$(WORKERS) PYTEST_ARGS= DEMO_ARGS='$(DEMO_ARGS)' PIP_FLAGS="

setup: $(STAMP)  ## create .venv with the pinned versions (PYTHON=python3.12 chooses another Python)

# The pins name every package, so pip has nothing to choose. Building scweave needs only the pinned setuptools: without
# build isolation no unpinned one is fetched.
$(STAMP): pyproject.toml constraints.txt
	@$(PY) -c 'import pip; $(NEW_ENOUGH)' 2>/dev/null || { \
	  $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	    found=$$($(PYTHON) --version 2>/dev/null || echo "not there"); \
	    echo "scweave needs Python 3.11 or newer, and $(PYTHON) is $$found. Name one: make setup PYTHON=/path/to/python3.12" >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv $$(test ! -f $(VENV)/pyvenv.cfg || echo --clear) $(VENV); }
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PY) -m pip check
	@echo "$(CURDIR)" > $@

demo: $(STAMP)  ## simulate, build, train, evaluate and map a small experiment into runs/demo
	$(VENV)/bin/scweave demo $(DEMO_ARGS)

# One thread a worker: two workers with as many threads as cores each would fight for them.
test: $(STAMP)  ## run the tests (PYTEST_ARGS='-k store' chooses some)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: style types  ## check style, formatting and types

style: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# mypy wants the package under its own name, whatever the checkout's folder is called.
types: $(STAMP)
	@mkdir -p .mypy && ln -sfn .. .mypy/scweave
	MYPYPATH=.mypy $(PY) -m mypy $(TYPED)

format: $(STAMP)  ## format the code and repair what ruff can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# setuptools packs whatever lies in build/, modules deleted long ago included.
wheel: $(STAMP)  ## build dist/scweave-*.whl
	rm -rf build dist *.egg-info
	$(PY) -m build --wheel --no-isolation

clean:  ## remove caches and build output (runs/ and .venv stay)
	rm -rf build dist *.egg-info .mypy .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
