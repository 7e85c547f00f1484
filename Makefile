# Every command of the project; CI and the documentation use the same words.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
ARGS   ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

.PHONY: help serve test test-gpu test-clients check format openapi docs bench train-tiny image constraints clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(STAMP)-serve ## Serve the embedded model on PORT (8000); ARGS="--model DIR_OR_HUB_ID" for another
	@$(BIN)/vlrm serve --port $(PORT) $(ARGS)

test: $(STAMP)-dev ## Run the tests; ARGS="tests/service -k score" for some of them
	@$(BIN)/python -m pytest $(ARGS)

test-gpu: $(STAMP)-dev ## Run the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(ARGS)

test-clients: $(STAMP)-dev .clients/installed ## Run the tests that use other projects' own client code
	@$(BIN)/python -m pytest -m clients $(ARGS)

# Beside the environment, not in it, and without what these projects train with.
CLIENTS := pip install --quiet --disable-pip-version-check --target .clients
.clients/installed: Makefile | $(BIN)/pip
	rm -rf .clients
	$(BIN)/python -m $(CLIENTS) aiohttp==3.14.5 openai==3.57.0
	$(BIN)/python -m $(CLIENTS) --no-deps --only-binary=:all: --python-version 3.11 openrlhf==0.11.2 verl==0.9.1
	@touch $@

check: $(STAMP)-dev ## Formatting, lint, types, spelling, Dockerfile and Compose file
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/codespell
	$(BIN)/hadolint Dockerfile && $(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose*.yaml

format: $(STAMP)-dev ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

openapi: $(STAMP)-dev ## Rewrite openapi.json from the code
	$(BIN)/python -m service.openapi > openapi.json.new && mv openapi.json.new openapi.json

docs: $(STAMP)-dev ## Rewrite the table of settings in docs/configuration.md
	PYTHONPATH=. $(BIN)/python docs/settings_table.py

bench: $(STAMP)-dev ## Requests per second and latency of a server it starts; ARGS="--url ..." for a running one
	@$(BIN)/python -m bench.load $(ARGS)

train-tiny: $(STAMP)-dev ## Train the embedded model again from nothing (about an hour on one core)
	$(BIN)/vlrm train training/recipes/tiny.yaml $(ARGS)

image: ## Build the container image; ARGS="--build-arg VARIANT=cuda" for GPUs
	docker build --tag vlrm:latest $(ARGS) .

constraints: ## Resolve the newest versions into constraints.txt (then run the tests)
	$(MAKE) VENV=.venv-constraints CONSTRAINTS="torch==2.13.0" .venv-constraints/installed-dev
	.venv-constraints/bin/pip freeze --exclude-editable | grep -v -E '^(nvidia-|cuda-|triton)' | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .venv-constraints .clients .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# The install step runs again only when what it reads has changed.
CONSTRAINTS ?= --constraint constraints.txt
$(STAMP)-%: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing vlrm[$*] into $(VENV); this takes a few minutes once." >&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable ".[$*]"
	@touch $@

# Debian ships Python without ensurepip: then virtualenv, then pip from outside, then a clear word.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "vlrm needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || $(PYTHON) -m virtualenv --quiet --clear $(VENV) 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	       && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip 2>/dev/null; } \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot create an environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
