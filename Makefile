# Everything a developer or CI needs. Only Python 3.11 or newer must be there, and SoftHSM2 for tests where it can't be
# installed by apt-get as root; `make help` lists the targets.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup softhsm lint format test test-full test-fast demo bench docs lock install-systemd clean
.DELETE_ON_ERROR:

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv with all that tests and checks need

$(STAMP): pyproject.toml deploy/build_hook.py protocol/envelope/_record_loops.pyx
	@test -n "$(PYTHON)" || { echo "Kveil needs Python 3.11 or newer: install it, or name it with make PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module: install it (on Debian: apt install python3-venv)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@touch $@

# An HSM's token in software, for tests. No wheel has it, so it is the one thing that comes from the system.
softhsm:
	@command -v softhsm2-util >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends softhsm2; } \
		|| { echo "Tests of keys by PKCS#11 need SoftHSM2: install it (on Debian: sudo apt-get install softhsm2)"; exit 2; }

lint: setup  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint softhsm  ## Run checks, and all tests with a real Kafka but the long ones
	$(BIN)/python -m pytest -m "not full" --cov --cov-report=term $(ARGS)

test-full: test  ## Run everything: what takes minutes too, and what clients do on an older Kafka
	$(BIN)/python -m pytest -m full $(ARGS)
	TEST_KAFKA_VERSION=3.9.2 $(BIN)/python -m pytest -m "not kafka4" tests/integration/test_clients_*.py tests/integration/test_data_*.py

test-fast: setup softhsm  ## Run the tests that need no broker
	$(BIN)/python -m pytest -m "not broker" $(ARGS)

demo: setup  ## Show it at work (KEEP=1 leaves it running, KAFKA=real uses Apache Kafka)
	$(BIN)/kveil demo $(if $(KEEP),--keep) $(if $(KAFKA),--kafka $(KAFKA))

bench: setup  ## Measure what sealing costs (QUICK=1 takes four minutes, all of it twenty-three; ARGS=--help tells more)
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(ARGS)

docs: setup  ## Write the reference and the man page from the code
	$(BIN)/python -m deploy.reference

# For every architecture and Python, from wheels and their hashes alone.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: setup  ## Pin what images and services are installed with (EXTRAS="msk ..." adds extras)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) $(foreach extra,$(EXTRAS),--extra $(extra)) pyproject.toml -o deploy/requirements.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) - -o deploy/requirements-build.txt

install-systemd:  ## Install to /opt/kveil, and the units of systemd, as root (docs/install.md)
	test -x /opt/kveil/bin/python || $(PYTHON) -m venv /opt/kveil
	/opt/kveil/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r deploy/requirements.txt
	/opt/kveil/bin/python -m pip install --quiet --no-deps --force-reinstall .
	install -d -m 0755 /etc/kveil
	test -e /etc/kveil/kveil.yaml || install -m 0644 deploy/kveil.yaml /etc/kveil/kveil.yaml
	install -m 0644 deploy/systemd/kveil.service deploy/systemd/kveil@.service /etc/systemd/system/
	test ! -d /run/systemd/system || systemctl daemon-reload

clean:  ## Remove what the targets made
	rm -rf $(VENV) dist build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f protocol/envelope/*.so
	rm -rf .import_linter_cache tests/support/kafkajs/node_modules
	find proxy protocol tests -name __pycache__ -type d -prune -exec rm -rf {} +
