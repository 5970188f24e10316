# Redrive. `make demo` and `make test` need only Python 3.11+, make and git: they set up .venv themselves.
PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.installed

.DEFAULT_GOAL := help
TIERS      := check unit integration acceptance
MORE_TIERS := torture-short sabotage real

.PHONY: help setup demo test test-all check unit integration acceptance sabotage real torture torture-short format up clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything that is needed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Redrive needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "Setting up .venv: pip fetches and installs all that is needed. Once only; it says nothing for a minute or two."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[devstack,dev]'
	@touch $@

demo: $(STAMP)  ## a complete run on embedded servers; ends by itself with a report
	$(BIN)/redrive demo

up: $(STAMP)  ## the service with the sample company on embedded servers, until Ctrl-C
	$(BIN)/redrive up --sample

test: $(STAMP)  ## check, unit, integration and acceptance; less than eight minutes on two cores, without a JVM
	@$(call run_tiers,$(TIERS))

test-all: $(STAMP)  ## make test, torture-short, sabotage and real; about 25 minutes
	@$(call run_tiers,$(TIERS) $(MORE_TIERS))

# Runs every tier, also after one has failed. The last line names those that failed.
define run_tiers
failed=; for tier in $(1); do $(MAKE) --no-print-directory $$tier || failed="$$failed $$tier"; done; \
if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi; echo "passed: $(1)"
endef

check: $(STAMP)  ## ruff, mypy and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)  ## tests without I/O
	$(BIN)/pytest -q -n 2 tests/unit

integration: $(STAMP)  ## tests against an embedded SQS and real ledgers
	$(BIN)/pytest -q -n 4 --dist loadfile tests/integration

acceptance: $(STAMP)  ## tests with real worker, beat and intake processes, and a short torture
	$(BIN)/pytest -q -n 4 --dist loadgroup --ignore=$(SABOTAGE) --ignore=$(MINUTE) tests/torture tests/acceptance

SABOTAGE := tests/torture/test_torture_sabotage.py
MINUTE   := tests/torture/test_torture_minute.py
sabotage: $(STAMP)  ## Redrives that are broken on purpose: the torture has to catch them
	$(BIN)/pytest -q -n 2 --dist load $(SABOTAGE)

real: $(STAMP)  ## tests with ElasticMQ, Apache Kafka and a Java consumer; need a JDK 17 and Maven, else they are skipped
	$(BIN)/pytest -q tests/real

SEED ?= 1
LEDGER ?= sqlite
torture: $(STAMP)  ## seven minutes of faults, then a verdict: make torture SEED=7, on PostgreSQL with LEDGER=postgresql
	$(BIN)/python tests/torture/torture.py --seed $(SEED) --ledger $(LEDGER)

torture-short: $(STAMP)  ## a minute of faults on SQLite, another on PostgreSQL
	$(BIN)/pytest -q $(MINUTE)

format: $(STAMP)  ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv, caches and the embedded state
	rm -rf .venv .redrive .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info .cache examples/*/target
