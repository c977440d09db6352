# Everything runs in an environment of its own; the only thing fetched is what the constraints pin.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo check test test-all sdk signing checkov bench bench-peers clean

help:  ## Show what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## Make the virtual environment with the pinned versions.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "cloudreg needs Python 3.11 or later: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup  ## Run the main job offline: train, register, promote, deploy, canary, refuse, roll back.
	$(BIN)/python examples/quickstart/run.py

check: setup  ## Lint, formatting, types and architecture: no test runs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

# Most tests wait for processes and sockets: three workers keep two cores busy.
PYTEST := $(BIN)/pytest -n 3 --dist worksteal

test: check  ## Everything that CI runs.
	$(PYTEST) -m "not slow"

PEERS := .venv-peers
SDK := .venv-sdk
SIGNING := .venv-signing
CHECKOV := .venv-checkov

test-all: check  ## The slow matrices too: faults, fuzzing, long races.
	$(if $(wildcard $(PEERS)),BENCH_PEERS=$(PEERS)) $(if $(wildcard $(SDK)),SAGEMAKER_SDK=$(SDK)) $(if $(wildcard $(SIGNING)),MODEL_SIGNING=$(SIGNING)) $(if $(wildcard $(CHECKOV)),CHECKOV=$(CHECKOV)) $(PYTEST)

sdk: $(SDK)/.installed  ## Install the SageMaker SDK, which the slow tests ask (1 GB).

# An environment of its own: the SDK wants protobuf below 7, which Google's packages do not.
$(SDK)/.installed: tests/sagemaker/sdk.txt
	$(PYTHON) -m venv $(SDK)
	$(SDK)/bin/pip install --quiet --disable-pip-version-check -e '.[sagemaker]' -r tests/sagemaker/sdk.txt
	@touch $@

signing: $(SIGNING)/.installed  ## Install the reference of model signing, which the slow tests ask.

# An environment of its own: the reference brings all of Sigstore's clients.
$(SIGNING)/.installed: tests/unit/signing/reference.txt
	$(PYTHON) -m venv $(SIGNING)
	$(SIGNING)/bin/pip install --quiet --disable-pip-version-check -r tests/unit/signing/reference.txt
	@touch $@

checkov: $(CHECKOV)/.installed  ## Install checkov, which a slow test asks about the Terraform modules.

# An environment of its own: it pins a botocore of two years ago.
$(CHECKOV)/.installed: tests/terraform/checkov.txt
	$(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/pip install --quiet --disable-pip-version-check -r tests/terraform/checkov.txt
	@touch $@

# Half an hour on two cores, and nothing else should run: BENCH="startup server" takes some of them.
BENCH ?=

bench: setup  ## Measure side by side and print ratios.
	BENCH_PEERS=$(wildcard $(PEERS)) SAGEMAKER_SDK=$(wildcard $(SDK)) \
		$(BIN)/python tests/bench/run.py $(BENCH)

bench-peers: $(PEERS)/.installed  ## Install what the benchmarks compare with (2 GB).

$(PEERS)/.installed: tests/bench/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r tests/bench/peers.txt
	@touch $@

clean:  ## Remove the environment and what the demo left.
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
