PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup run test attack mutants lint docs bench gpu sanitize clean
.DELETE_ON_ERROR:

help:
	@echo "make setup   create .venv with the pinned versions of constraints.txt"
	@echo "make run     the main job on the default checkpoint; the report is tappa-out/report.html"
	@echo "make test    lint, then all tests"
	@echo "make attack  property tests with ever other examples, MINUTES=10, until one finds a counterexample"
	@echo "make mutants small errors planted in every proof, one at a time: each must be noticed (20 min)"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make docs    build the site into docs/_build/html"
	@echo "make bench   print a table of timings"
	@echo "make gpu     check and time the kernels on a CUDA device: tappa-out/gpu"
	@echo "make sanitize  some kernel tests under NVIDIA's memory checker"
	@echo "make clean   remove .venv and what the tools left"

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: tappa needs Python 3.11 or newer, and '$(PYTHON)' is not;" \
			"name one, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "make: installing the pinned packages into .venv (some minutes the first time)"
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	@$(PIP_INSTALL) -e '.[docs]'
	@touch $@

run: setup
	$(BIN)/tappa run --out tappa-out

# One thread per worker: more would only contend for the same cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Ends with an error at a counterexample; Ctrl-C ends it with the tally.
MINUTES ?= 10
JOBS ?= 2
attack: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack --minutes $(MINUTES) --jobs $(JOBS)

# Ends with an error if a mutant survives; tappa-out/mutants.md lists them.
mutants: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m proofs.mutation --out tappa-out

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup .venv/installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: setup
	$(BIN)/python benchmarks/bench.py

gpu: setup
	@$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { \
		echo "make gpu: torch sees no CUDA device here; run it on a machine with one" >&2; exit 2; }
	$(BIN)/python -m pytest -q tests/gpu_check/kernels
	$(BIN)/python -m benchmarks.gpu --out tappa-out/gpu

sanitize: setup
	compute-sanitizer --tool memcheck --error-exitcode 1 --target-processes all \
		$(BIN)/python -m pytest -q -p no:cacheprovider tests/gpu_check/kernels -k "odd or window or zero"

clean:
	rm -rf .venv build dist docs/_build docs/theorems .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
