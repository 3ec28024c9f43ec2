# Everything a developer calls; `make help` says what there is.
.PHONY: help setup lint test-fast test docs demo bench lock clean
PYTHON ?= python3
BIN := .venv/bin
DOCS := .venv-docs
IMPORTED := timm,adjobs.jobs.run,adjobs.reporting.figures ray.train.torch,ray.scripts.scripts mlflow.cli,mlflow.server.auth adjobs.queue.service
# Many containers set this. Without compiled files each of the tests' hundreds of processes would compile PyTorch and Ray again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: .venv/ready  ## .venv with pinned versions

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"adjobs needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; use make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# Twenty thousand files, of which a third is ever imported. Python compiles those by itself; here the imports do it at once,
	@# on two cores, so that the first job does not wait for it in one process after the other.
	@echo "1/3 installing $$(grep -c == requirements.lock) packages into .venv; this takes longest ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@echo "2/3 installing adjobs itself ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "3/3 compiling what is imported, so that the first command need not ..."
	printf '%s\n' $(IMPORTED) | xargs -P 2 -I {} $(BIN)/python -W ignore -c 'import {}' > /dev/null
	touch $@

lint: setup  ## formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: lint  ## lint, and the tests that start no service: about two and a half minutes on two cores
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --max-worker-restart 0

test: lint  ## lint, and all tests, with real Ray, MLflow and S3
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --max-worker-restart 0

docs: setup $(DOCS)/ready  ## the documentation site, in site/; fails on a broken link
	$(BIN)/python docs/generate_reference.py
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

# An environment of its own: the site needs neither adjobs nor PyTorch.
$(DOCS)/ready: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > $(DOCS)/requirements.txt
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(DOCS)/requirements.txt
	touch $@

demo: setup  ## one real job, end to end
	$(BIN)/python examples/demo.py

bench: setup  ## training and evaluation speed of this machine
	$(BIN)/python benchmarks/throughput.py

# Resolves without installing; pip's report holds names and versions, of which the file keeps just these.
lock:  ## requirements.lock with the newest versions that fit pyproject.toml
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-lock/bin/python -m pip install --quiet --dry-run --ignore-installed --report .venv-lock/report.json '.[train,export,demo,dev]'
	$(PYTHON) -c 'import json; found = [item["metadata"] for item in json.load(open(".venv-lock/report.json"))["install"]]; print(*sorted((one["name"] + "==" + one["version"] for one in found if one["name"] not in {"adjobs", "pip", "setuptools", "wheel"}), key=str.lower), sep="\n")' > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:  ## remove what make has made
	rm -rf .venv .venv-docs .venv-lock demo-out site
