# Everything a developer needs. `make setup` does nothing when all is in place.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
# The newest uv that this Makefile was tried with; brought by pip where the machine has none.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' 2>/dev/null)

.PHONY: help setup demo test lint format schema texts lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.installed app/static/.built ## install what is needed (called by the targets below)

demo: setup ## start everything on this machine and play the story of a lunch
	@$(BIN)/lunch-bot dev --demo

test: setup ## run the whole suite
	@$(BIN)/pytest

lint: setup ## style, types and import rules
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

texts: setup ## collect the Telegram texts into the catalogues, and compile those
	@$(BIN)/pybabel -q extract -k _n:1,2 --no-location --omit-header -o .lunch-bot/texts.pot app/telegram
	@$(BIN)/pybabel -q update --no-fuzzy-matching -D lunch_bot -i .lunch-bot/texts.pot -d app/telegram/locales --no-wrap --ignore-pot-creation-date
	@$(BIN)/pybabel -q compile -D lunch_bot -d app/telegram/locales

lock: $(UV) ## resolve the dependencies anew into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.12 --upgrade \
	  --all-extras --group dev --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean: ## remove what setup and the embedded services made
	rm -rf .venv .uv .node .lunch-bot app/static web/node_modules

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Python 3.13 if it can be had (see .python-version), else any that the project supports.
.venv/.installed: requirements.lock pyproject.toml | $(UV)
	@$(UV) venv --quiet --allow-existing .venv 2>/dev/null || $(UV) venv --quiet --allow-existing --python '>=3.12' .venv
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv requirements.lock
	@$(UV) pip install --quiet --python .venv --no-deps --editable .
	@touch $@

app/static/.built: $(WEB_SOURCES)
	@sh web/build.sh
	@touch $@
