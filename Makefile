# `make serve` and `make test` set everything up: a virtual environment with exactly the versions of constraints.txt.
PYTHON ?= python3
PORT ?= 8000
ENGINE ?= embedded
# Packages that are installed, too: gpu, tensorrt, tensorrt-rtx, heif or otel.
EXTRA ?=
BENCH ?=
# Twice the two cores of a small machine: many tests wait for a Triton to start or to end.
JOBS ?= 4
# Many containers set it. Without bytecode of its sources, every process that a test starts compiles them again.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
LOCK_IMAGE := $(BIN)/uv pip compile --universal --generate-hashes --no-annotate --no-header --constraint constraints.txt

.PHONY: serve test check bench lock clean

serve: $(if $(filter triton,$(ENGINE)),$(VENV)/.triton,$(VENV)/.base) $(EXTRA:%=$(VENV)/.extra-%)  ## serve the bundled taggers: PORT=8000 ENGINE=embedded|triton EXTRA=gpu
	$(BIN)/labelwise serve --engine $(ENGINE) --port $(PORT)

test: $(VENV)/.dev  ## install everything and run all tests, JOBS=4 files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.triton  ## compare with other servers, BENCH="--only labelwise fastapi"
	$(BIN)/python -m benchmarks.peers $(BENCH)

lock: $(VENV)/.dev  ## choose new versions for constraints.txt and write their hashes for the images
	$(PIP) uv
	$(BIN)/uv pip compile --universal --python-version 3.10 --upgrade --no-annotate --no-header --extra dev --extra nvjpeg --extra tensorrt-rtx \
		pyproject.toml --output-file constraints.txt
	printf 'setuptools\n' | $(LOCK_IMAGE) --python-version 3.11 --extra otel --extra onnx pyproject.toml - --output-file deploy/requirements.txt
	printf 'numpy\npillow\n' | $(LOCK_IMAGE) --python-version 3.10 - --output-file deploy/triton-requirements.txt

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed: on Debian and Ubuntu, apt install python3-venv."; rm -rf $(VENV); exit 1; }

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.triton: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[triton]'
	@touch $@ $(VENV)/.base

$(VENV)/.extra-%: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[$*]'
	@touch $@ $(VENV)/.base

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.base $(VENV)/.triton
