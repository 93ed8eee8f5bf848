# Needs Python 3.11 or newer, make and git; everything else is installed into $(VENV).
# The same targets run here and in CI.

.DEFAULT_GOAL := help
.PHONY: help run install install-run airflow lint format types test test-fast test-e2e test-chaos bench bench-peers fuzz docs pins wheel clean

VENV ?= .venv
PORT ?= 8000
PYTEST_WORKERS ?= 2

ifneq ($(wildcard $(VENV)/bin/python),)
PYTHON ?= $(VENV)/bin/python
else
# The first Python that is new enough; else any, which then says what is wrong.
PYTHON ?= $(or $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p)))),python3)
endif
BIN := $(VENV)/bin

# The tests start hundreds of processes; what is compiled once is read by all.
unexport PYTHONDONTWRITEBYTECODE

# Tests that failed run once more, alone: real processes share the machine with whatever else runs there. Both runs stay
# in the log, and a test that needed the second one is a fault to mend.
pytest = $(BIN)/python -m pytest $(1) || { [ $$? -eq 1 ] && echo "once more, what failed:" && \
	$(BIN)/python -m pytest $(1) --last-failed --last-failed-no-failures none; }

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  %-12s %s\n", $$1, $$2}'

run: install-run ## Serve on $(PORT), release a better model and a faulty one under live traffic; Ctrl-C ends.
	@$(BIN)/python -m tidegate demo --port $(PORT)

install: ## Install everything for development into .venv.
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; Tidegate needs Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) scripts/setup.py dev --venv $(VENV)

install-run:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; Tidegate needs Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) scripts/setup.py run --venv $(VENV)

airflow: install ## Install Airflow into .venv-airflow, beside .venv; the tests do so themselves.
	$(BIN)/python scripts/setup.py airflow

lint: install ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## Rewrite the files in the house's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint ## Run lint, types and all tests.
	$(call pytest,-n $(PYTEST_WORKERS) --dist worksteal --ignore tests/chaos --ignore tests/e2e)
	@$(MAKE) --no-print-directory test-e2e
	@$(MAKE) --no-print-directory test-chaos

test-e2e: install ## Run the tests in a browser; apart, since Playwright keeps an event loop running.
	$(call pytest,-n $(PYTEST_WORKERS) --dist worksteal tests/e2e)

test-chaos: install ## Run the tests that break things; those that need the machine for themselves run alone.
	$(call pytest,-n $(PYTEST_WORKERS) --dist worksteal --ignore tests/chaos/test_overload.py tests/chaos)
	$(call pytest,tests/chaos/test_overload.py)

test-fast: install ## Run the tests that need less than a minute.
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not slow"

bench: install ## Measure (10 minutes); the results are in benchmarks/results.
	$(BIN)/python -m benchmarks

bench-peers: install ## Measure the other servers too, each in an environment of its own.
	$(BIN)/python -m benchmarks --peers

fuzz: install ## Fuzz the decoders for longer than the tests do.
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=long

docs: install ## Write the generated reference pages.
	$(BIN)/python scripts/reference.py

pins: install ## Pin the newest versions that fit into requirements/*.txt.
	$(BIN)/python scripts/pins.py --upgrade

wheel: install ## Build the wheel into dist/.
	$(BIN)/python -m hatchling build -t wheel

clean: ## Remove everything that was built here.
	rm -rf $(VENV) .venv-airflow run dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
