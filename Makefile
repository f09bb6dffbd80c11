# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv and leaves its data in .demo and .bench; all are ignored by git.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .bench/venv
EXTRAS := cpu,tensorflow,torch,sklearn,boosting,optimize,mlflow,s3,report,prometheus,openlineage,spark
# Where pip is told of a torch without CUDA, uv is told too: PyPI's own for Linux is several GB.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
# The newest supported Python that is on the PATH; choose another with `make PYTHON=python3.12 …`.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test test-faults lint docs matrix images audit sbom bench bench-quick airflow java clean
.DEFAULT_GOAL := demo

demo: $(READY) java  ## the whole daily job on real pictures, about five minutes
	$(BIN)/python -m demo

test: $(READY) java  ## all tests, real Spark and a real scheduler included
	@sh tests/programs.sh
	$(BIN)/python -m pytest -n 3

test-faults: $(READY) java  ## what happens when things die: a real cluster, real kills, about ten minutes
	$(BIN)/python -m pytest -m faults

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(READY)  ## the site in .docs, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs .docs
	@echo "Open .docs/index.html"

matrix: $(READY) java  ## Airflow, Python and Spark in pairs, and each extra alone, about 40 minutes; needs python3.11, 3.12 and 3.13
	$(BIN)/nox

images:  ## the images with buildah, and the demo's day inside them, about eight minutes; needs root, buildah and debootstrap
	python3 docker/images.py

audit: $(READY)  ## the pinned versions against the published advisories
	@$(BIN)/python release/audit.py || test $$? -eq 3

sbom: $(READY)  ## sdist, wheel and bill of materials in dist/
	$(BIN)/python -m build --no-isolation
	$(BIN)/python release/sbom.py

bench: $(BENCH)/.ready java  ## this product, its peers and the limit in one run, about 40 minutes
	$(BENCH)/bin/python -m benchmarks

bench-quick: $(BENCH)/.ready java  ## one round of three works on fewer rows, about four minutes
	$(BENCH)/bin/python -m benchmarks --quick

airflow: $(READY) java  ## a full Airflow with the reference DAG; Ctrl-C ends it
	@$(BIN)/python -m demo.ui

java:
	@sh demo/java.sh

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none is on the PATH."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	@# uv installs in half a minute; pip takes minutes, but knows mirrors that only pip is configured for.
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' --group dev \
		|| $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]' --group dev
	@touch $@

# The peers need other versions of some libraries than Airflow has.
$(BENCH)/.ready: $(READY) constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	grep -vE '^(cachetools|importlib-metadata)==' constraints.txt > .bench/constraints.txt
	$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python -c .bench/constraints.txt -r benchmarks/requirements.txt \
		|| $(BENCH)/bin/python -m pip install --quiet -c .bench/constraints.txt -r benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .demo .bench .docs .images .matrix dist
