# Two commands set everything up: `make demo` runs the main job, `make test` passes the tests.
# PYTHON says which interpreter (3.11 or 3.12), VENV where the environment lies.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DELETE_ON_ERROR:
.PHONY: demo test setup lint lock clean

demo: setup  ## the v1v3 blend, end to end, at debug scale
	$(BIN)/nemo-run recipes/distill_v1v3.py --executor local

test: setup  ## every test, slow ones too; PYTEST may hold arguments
	$(BIN)/python -m pytest $(PYTEST)

setup: $(VENV)/.ready

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

# torch goes first: pip takes the build that it finds for this machine, and the lock names no CUDA package. The lock
# holds all the rest, so nothing is left to be resolved.
$(VENV)/.locked: requirements/lock.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
	    echo "nemo-distill needs Python 3.11 or 3.12, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1):" \
	        "name another with PYTHON=..." >&2; exit 2; }
	@echo "Setting up $(VENV), once: 3 GB of packages, a few minutes."
	"$(PYTHON)" -m venv --clear "$(VENV)"
	$(BIN)/python -m pip install -qq torch==2.13.0
	$(BIN)/python -m pip install -qq --no-deps --requirement requirements/lock.txt
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Needs uv. Every package is locked at one version for both Pythons, so the markers say nothing: should a package ever
# need two, pip refuses the file for naming it twice.
UV ?= uv
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--excludes requirements/excludes.txt --annotation-style line --custom-compile-command 'make lock'
PLAIN := sed -E -e 's/ ; [^\#]+( \#|$$)/ \1/' -e 's/,? -c [^ ,]+//' -e 's/via, /via /' -e 's/ +(\# via)?$$//'

lock:
	$(COMPILE) --upgrade --extra test --extra harnesses | $(PLAIN) > requirements/lock.txt

clean:
	rm -rf "$(VENV)"
