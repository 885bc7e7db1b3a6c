# The targets for developers. `make setup` does nothing if everything is installed.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
# A process without tests takes some from another one. tests/conftest.py has the number of processes.
IN_PARALLEL := -n auto --dist worksteal
# The folders of tests that `make test-fast` runs.
FAST := $(addprefix tests/,models auth resolvers services schema rest ai telegram)
# The newest uv that this Makefile was tested with. pip installs it if the machine has none.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' 2>/dev/null)

.PHONY: help setup demo test test-fast lint format schema texts lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: .venv/.installed app/static/.built ## install tools, dependencies and pages (the targets below do this too)

demo: setup ## start everything on this machine, play the story of a lunch, keep serving
	@$(BIN)/lunch-bot dev --demo

test: setup ## run the whole suite, with the coverage of app/ and the files below 90 %
	@$(BIN)/pytest $(IN_PARALLEL) --cov --cov-report=; status=$$?; \
	  $(BIN)/coverage report | awk '/^app.*%$$/ && $$4 + 0 < 90'; exit $$status

test-fast: setup ## run unit and operation tests: no Kafka broker, no other processes
	@$(BIN)/pytest $(IN_PARALLEL) -m "not slow" $(FAST)

lint: setup ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml

format: setup ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: setup ## write schema.graphql, openapi.json and asyncapi.yaml
	@$(BIN)/lunch-bot export

texts: setup ## collect the Telegram texts into the catalogues, and compile them
	@$(BIN)/pybabel -q extract -k _n:1,2 --no-location --omit-header -o .lunch-bot/texts.pot app/telegram
	@$(BIN)/pybabel -q update --no-fuzzy-matching -D lunch_bot -i .lunch-bot/texts.pot -d app/telegram/locales --no-wrap --ignore-pot-creation-date
	@$(BIN)/pybabel -q compile -D lunch_bot -d app/telegram/locales

lock: $(UV) ## resolve the dependencies again into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.12 --upgrade \
	  --all-extras --group dev --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean: ## remove everything that was installed, built or stored by the embedded services
	rm -rf .venv .uv .node .lunch-bot .coverage* app/static web/node_modules

.uv/bin/uv:
	@echo "Installing uv, which installs the rest ..."
	@python3 -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Python 3.13 if it is available (see .python-version), otherwise any version that the project supports.
.venv/.installed: requirements.lock pyproject.toml | $(UV)
	@echo "Installing the Python packages of requirements.lock into .venv (the first time this can take minutes) ..."
	@began=$$(date +%s); \
	  { $(UV) venv --quiet --allow-existing .venv 2>/dev/null || $(UV) venv --quiet --allow-existing --python '>=3.12' .venv; } && \
	  $(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv requirements.lock && \
	  $(UV) pip install --quiet --python .venv --no-deps --editable . && \
	  touch $@ && echo "  done in $$(($$(date +%s) - began)) s"

app/static/.built: $(WEB_SOURCES)
	@echo "Building the pages (GraphiQL, REST docs) into app/static ..."
	@began=$$(date +%s); sh web/build.sh && touch $@ && echo "  done in $$(($$(date +%s) - began)) s"
