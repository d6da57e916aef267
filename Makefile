# One virtual environment, .venv, filled once per set of extras. `make help` lists what there is to do.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all browser lint docs results figures notebooks bench clean

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
# Two workers with one thread each are faster on small models than one worker with two threads.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# The first Python that is new enough; set PYTHON to choose another.
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c '$(RECENT)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## draw the report of the embedded model into report/
	$(BIN)/interp demo --out report

test: $(VENV)/.test ## run the tests but the slow ones; ARGS="-k sinks" is passed to pytest
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

test-all: $(VENV)/.test ## run every test, the slow grids included
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

browser: ## install a headless browser for the tests of pages, where that can be done (Debian, as root); they are skipped without
	@command -v chromedriver >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core; } \
	>/dev/null 2>&1 </dev/null; } || echo "no browser here: the tests that open pages in one will be skipped"

lint: $(VENV)/.lint ## check style, types and the layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs ## build the documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

results: $(VENV)/.demo ## measure the embedded model again and write docs/results.md
	$(BIN)/python docs/results.py $(ARGS)

figures: $(VENV)/.demo ## draw every published figure again
	set -e; for script in $$(grep -l __main__ figures/*.py); do echo "$$script"; $(BIN)/python "$$script"; done

notebooks: $(VENV)/.notebooks $(VENV)/.test ## execute the notebooks
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --nbmake --nbmake-timeout=600 notebooks

# Modules that the scripts share measure nothing; the page is written when all is measured.
bench: $(VENV)/.test ## measure time and memory ratios and write docs/performance.md
	set -e; for name in $(filter-out render sizes timing,$(basename $(notdir $(wildcard benchmarks/*.py)))) render; do \
		echo "benchmarks/$$name.py"; $(BIN)/python "benchmarks/$$name.py"; done

clean: ## remove what the targets wrote, but not the environment (rm -r .venv does that)
	rm -rf report dist build docs/_build docs/api/generated .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp stands for an installed set of extras; it is older than pyproject.toml or constraints.txt when these ask for something new.
$(VENV)/.demo: EXTRAS :=
$(VENV)/.test: EXTRAS := [test]
$(VENV)/.lint: EXTRAS := [lint]
$(VENV)/.docs: EXTRAS := [docs]
$(VENV)/.notebooks: EXTRAS := [notebooks]
$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.docs $(VENV)/.notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$(EXTRAS)"
	@touch $@

$(BIN)/python:
	@"$(PYTHON)" -c '$(RECENT)' >/dev/null 2>&1 || { echo \
	"interp needs Python 3.11 or newer, and $(if $(PYTHON),'$(PYTHON)' is not,none was found). Install one, or say where it is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
