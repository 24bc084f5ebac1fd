# Switchboard. The two commands that matter: `make demo` and `make test`.
# Variables: PYTHON (3.11 or newer), ARGS (passed to pytest, to the benchmark or to the campaign), SWITCHBOARD_PORT and all other settings.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
COMPILE := pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: demo run test check audit bench campaign messages vendor lock clean

demo: $(READY) ## everything on this machine, with simulated providers and demo data
	@exec $(BIN)/python manage.py serve --demo

run: $(READY) ## everything on this machine, without demo data
	@exec $(BIN)/python manage.py serve

# Two tests at a time: they mostly wait. PostgreSQL first, so that the summary of the whole suite is the last line.
test: $(READY) ## the whole suite, and what depends on the database on PostgreSQL too
	@.ci/packages test
	@.ci/with-postgres $(BIN)/python -m pytest -q -n 2 -m "not browser" tests/accounts tests/conversations
	@$(BIN)/python -m pytest -q -n 2 $(ARGS)

check: $(READY) ## style, types, templates, settings, migrations, translations
	@.ci/packages check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/djlint --quiet --lint templates
	$(BIN)/mypy
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run
	.ci/check-production $(BIN)/python
	.ci/messages check $(BIN)/python

audit: ## ask the advisory service about the locked dependencies; says "not audited" where it cannot be reached
	@.ci/audit

bench: $(READY) ## measure the bulk engine beside a bare client
	@$(BIN)/python -m tests.bench $(ARGS)

campaign: $(READY) ## jobs while everything goes wrong: faults, kills, outages; in the end no number may lie
	@$(BIN)/python -m tests.campaign $(ARGS)

messages: $(READY) ## collect texts and compile the translations
	@.ci/packages check
	@.ci/messages update $(BIN)/python

vendor: $(READY) ## fetch the browser libraries anew and write their checksums
	@.ci/vendor

lock: $(READY) ## resolve the dependencies anew
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv $(COMPILE) pyproject.toml -o requirements.lock
	$(BIN)/uv $(COMPILE) --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove what the tools made; the data in var/ stays
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis staticfiles test-results
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): requirements-dev.lock
	@.ci/packages venv $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies into .venv (once, about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $(READY)
