# `make` alone lists what there is. Two commands set everything up: `make demo` runs the main job, `make test` passes the
# tests. `make check` is for every change before it is committed, `make docs` builds the site.
# PYTHON says which interpreter (3.11 or 3.12), VENV where the environment lies, TORCH which build of torch (cpu, cuda or
# gpu: requirements/install.sh).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# make reads a space as two names, of targets too.
ifneq ($(words $(VENV)),1)
$(error VENV='$(VENV)' is no one name: the environment cannot be in a folder with a space, though the checkout can)
endif
DOCS_VENV ?= $(VENV)-docs
AUDIT_VENV ?= $(VENV)-audit
LOCKS := $(filter-out %excludes.txt,$(wildcard requirements/*.txt))
HASHED := --no-deps --require-hashes --only-binary :all:

# What `make check` leaves to `make test`: what starts clusters, launches, ranks, servers or browsers, or takes long.
LONG := test_contributing.py test_old_runs.py test_planted_faults.py evaluator/harness/test_launcher.py \
	evaluator/report/test_browser.py evaluator/serve/test_server.py nemo_distill/data/test_tokenise.py \
	nemo_distill/data/test_tokenizer.py nemo_distill/debug/test_teacher.py nemo_distill/kd/test_divergence.py \
	nemo_distill/launch/slurm nemo_distill/launch/test_launch.py nemo_distill/launch/test_preflight.py \
	nemo_distill/launch/test_secrets.py \
	nemo_distill/outcome/test_damaged_runs.py nemo_distill/run/test_forkserver.py nemo_distill/run/test_ranks.py \
	nemo_distill/steps/test_prepare.py nemo_distill/steps/test_prepare_hub.py nemo_distill/steps/test_prepare_rows.py \
	evaluator/harness/test_asking.py nemo_distill/backends nemo_distill/test_own_sources.py nemo_distill/track \
	nemo_distill/upkeep

# Tests that train share their steps, and those on a cluster share that and mostly wait. Those of the evaluator and all
# others run beside both; the launches even the jobs out, and go after the harnesses, which read what is logged.
TRAINING := tests/test_debug_run.py tests/test_old_runs.py tests/test_own_study.py tests/nemo_distill/train \
	tests/nemo_distill/run/test_ranks.py tests/nemo_distill/steps/test_distill.py
CLUSTER := tests/nemo_distill/launch/slurm tests/nemo_distill/launch/test_secrets.py \
	tests/nemo_distill/launch/test_faults.py tests/nemo_distill/launch/test_preflight.py tests/nemo_distill/track
EVALUATOR := tests/evaluator tests/nemo_distill/launch/test_launch.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-training test-cluster test-evaluator test-others check lint types layers fast docs setup lock audit clean

help:  ## what there is to make
	@echo "nemo-distill: make TARGET, with PYTHON=... another interpreter (3.11 or 3.12), VENV=... another environment"
	@sed -nE 's/^([a-z]+):[^#]*##/  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo "To try it: make demo. For each change before it is committed: make check."

demo: setup  ## the v1v3 blend, end to end, at debug scale
	$(BIN)/nemo-run recipes/distill_v1v3.py --executor local

# In four jobs, whose output is not mixed; each goes on when another has failed.
test: setup  ## every test, slow ones too, in four processes; PYTEST may hold arguments
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target --keep-going \
		test-training test-cluster test-evaluator test-others

test-training: setup
	$(BIN)/python -m pytest $(PYTEST) $(wildcard $(TRAINING)) || test $$? -eq 5  # PYTEST has chosen none of these

test-cluster: setup
	$(BIN)/python -m pytest $(PYTEST) $(wildcard $(CLUSTER)) || test $$? -eq 5

test-evaluator: setup
	$(BIN)/python -m pytest $(PYTEST) $(wildcard $(EVALUATOR)) || test $$? -eq 5

test-others: setup
	$(BIN)/python -m pytest $(PYTEST) $(patsubst %,--ignore=%,$(TRAINING) $(CLUSTER) $(EVALUATOR)) || test $$? -eq 5

setup: $(VENV)/.ready  ## the environment, once: 3 GB of packages, a few minutes

# The package itself is built by the setuptools of the lock.
$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

# Every file is checked against the hashes of the locks, and the locks hold all, so nothing is left to be resolved.
$(VENV)/.locked: requirements/install.sh requirements/lock.txt requirements/torch-cpu.txt requirements/torch-cuda.txt \
		requirements/build.txt requirements/source.txt
	@bash requirements/needs.sh "$(PYTHON)" "$(VENV)"
	@echo "Setting up $(VENV), once: 3 GB of packages, a few minutes."
	bash requirements/install.sh "$(PYTHON)" "$(VENV)" $(TORCH)
	@touch $@

# In two jobs, whose output is not mixed.
check: setup  ## format, lint, types, layers, doctests and the fast tests; its budget is 90 seconds on two idle cores
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target fast lint types layers

lint: setup  ## format, lint, spelling, and the workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/actionlint .github/workflows/*.yml

types: setup  ## mypy over both packages
	$(BIN)/mypy

layers: setup  ## which room may import which
	$(BIN)/lint-imports

fast: setup  ## doctests and the fast tests
	$(BIN)/python -m pytest -q -m "not slow and not gpu" $(LONG:%=--ignore=tests/%)

docs: $(DOCS_VENV)/.ready  ## the site, strictly, into build/site
	$(DOCS_VENV)/bin/python -m doctest docs/hooks.py
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "The site: build/site/index.html"

# Docstrings are read, not imported, so none of what the code needs is installed.
$(DOCS_VENV)/.ready: requirements/docs.txt
	"$(PYTHON)" -m venv --clear "$(DOCS_VENV)"
	$(DOCS_VENV)/bin/python -m pip install -qq $(HASHED) --requirement requirements/docs.txt
	@touch $@

audit: $(AUDIT_VENV)/.ready  ## known vulnerabilities of what is locked; DATABASE=all.zip where OSV cannot be asked
	$(AUDIT_VENV)/bin/python requirements/audit.py $(LOCKS) $(DATABASE:%=--database "%")

$(AUDIT_VENV)/.ready: requirements/audit.txt
	"$(PYTHON)" -m venv --clear "$(AUDIT_VENV)"
	$(AUDIT_VENV)/bin/python -m pip install -qq $(HASHED) --requirement requirements/audit.txt
	@touch $@

UV ?= uv
UPGRADE ?= --upgrade

lock:  ## requirements/*.txt anew, from pyproject.toml; needs uv, and UPGRADE= keeps versions
	bash requirements/lock.sh "$(UV)" $(UPGRADE)

clean:  ## remove the environments and build/; runs stay (nemo-run clean is for those)
	rm -rf "$(VENV)" "$(DOCS_VENV)" "$(AUDIT_VENV)" build
