# Everything here works in a fresh clone, without an active virtual environment.
# The first run installs into .venv; later runs reuse it until the requirements change.

PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0

# The oldest core that is supported, and the last one whose command line downloads packs.
OLD_VENV := .venv-core-0.14.20
OLD_BIN := $(OLD_VENV)/bin
OLD_CORE := llama-index-core==0.14.20 llama-index-cli==0.5.7

# The pins are those of Python 3.11; other versions choose their own.
ON_311 := $(shell $(PYTHON) -c 'import sys; print("yes" if sys.version_info[:2] == (3, 11) else "")')
PINS := $(if $(ON_311),--constraint constraints.txt)
OLD_PINS := $(if $(ON_311),--constraint constraints-core-0.14.20.txt)

# A virtual environment is chosen by path here, never by what the shell has active.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench format pins clean
.DELETE_ON_ERROR:

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.demo-installed  ## Ask a mixture of three local proposers, no key needed
	$(BIN)/moa demo
	@echo 'Ask it something of your own: $(BIN)/moa ask "..."'

test: .venv/.dev-installed $(OLD_VENV)/.installed  ## Run all tests, then the mixture's on the oldest core
	$(BIN)/python -m pytest
	$(OLD_BIN)/python -m pytest -p no:cacheprovider -m "not slow and not sparse_moe and not ways_in"

lint: .venv/.dev-installed  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev-installed  ## Check types, strictly, in the package and its tests
	$(BIN)/mypy

bench: .venv/.dev-installed  ## Run the benchmarks: JSON and a table
	$(BIN)/python -m benchmarks

format: .venv/.dev-installed  ## Put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch goes in first and alone: a range in another package's requirements must find it there.
.venv/.demo-installed: pyproject.toml constraints.txt
	@echo "Installing into .venv (a few minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) $(TORCH)
	$(BIN)/python $(PIP_INSTALL) $(PINS) --editable '.[sparse-moe,cli]'
	@touch $@

.venv/.dev-installed: .venv/.demo-installed
	@echo "Installing the development tools into .venv ..."
	$(BIN)/python $(PIP_INSTALL) $(PINS) --editable '.[all,dev]'
	@touch $@

$(OLD_VENV)/.installed: pyproject.toml constraints-core-0.14.20.txt
	@echo "Installing the oldest supported core into $(OLD_VENV) ..."
	$(PYTHON) -m venv $(OLD_VENV)
	$(OLD_BIN)/python $(PIP_INSTALL) $(OLD_PINS) $(OLD_CORE) --editable '.[test]'
	@touch $@

# Comments at the top of each file say that this wrote it.
define write_pins
	{ echo "# Python 3.11. Written by 'make pins': $(2)"; \
	  $(1)/bin/python -m pip freeze --exclude llama-index-packs-mixture-of-agents \
	  | sed -E 's/\+[a-z0-9.]+$$//'; } > $(3)
endef

pins:  ## Renew the constraints files from what pip chooses today
	rm -rf .venv-pins .venv-pins-old
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/python $(PIP_INSTALL) $(TORCH)
	.venv-pins/bin/python $(PIP_INSTALL) '.[all,dev]'
	$(call write_pins,.venv-pins,what 'make demo' and 'make test' install.,constraints.txt)
	$(PYTHON) -m venv .venv-pins-old
	.venv-pins-old/bin/python $(PIP_INSTALL) $(OLD_CORE) hatchling '.[test]'
	$(call write_pins,.venv-pins-old,the environment with the oldest core.,constraints-core-0.14.20.txt)
	rm -rf .venv-pins .venv-pins-old

clean:  ## Remove environments, builds and caches
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
