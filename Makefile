# make install   virtual environment in .venv, the package (release build) and the tools
# make demo      store a trained network on phase-change memory, age it, read it back
# make test      every check: lint, types, stub, tests (what .ci/run runs)
# make neon      the kernels of every instruction set, NEON under an emulator included, against each other
# make lint | typecheck | stubs | format | bench | clean | distclean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=
PYTEST_FLAGS ?=

CXX_FILES = $(shell find csrc tests/native -name '*.cpp' -o -name '*.hpp')
SOURCES := CMakeLists.txt $(shell find csrc python -type f -not -name '*.pyc' -not -name '*.so')
# Folders too: their date changes when a file is removed.
FOLDERS := $(shell find csrc python -type d -not -name __pycache__)
BENCHES := $(wildcard bench/kernels.py bench/codes.py bench/chain.py bench/smoke.py)
# The build's own needs, from pyproject.toml. They live in the environment so that builds are incremental: with pip's
# build isolation every build would be a full one.
BUILD_NEEDS := $(shell sed -n '/^requires = /{s/[^[]*\[//;s/\].*//;s/,/ /g;p;}' pyproject.toml) cmake ninja
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

.PHONY: install demo test neon lint typecheck stubs format bench clean distclean
.DELETE_ON_ERROR:

install: $(VENV)/installed

$(VENV)/tools: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "memristore needs Python 3.10 or newer; choose one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(BUILD_NEEDS)
	@touch $@

# Dependencies are looked at only when they may have changed.
$(VENV)/installed: $(VENV)/tools $(SOURCES) $(FOLDERS)
	$(PIP) --no-build-isolation $(if $(filter $(VENV)/tools,$?),'.[dev]',--no-deps .)
	@touch $@

demo: install
	$(BIN)/memristore demo $(DEMO_FLAGS)

test: lint typecheck stubs
	$(BIN)/python -m pytest -q $(PYTEST_FLAGS)
	$(BIN)/python bench/smoke.py

neon: install
	$(BIN)/python -m pytest -q tests/native

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

typecheck: install
	$(BIN)/python -m mypy

# The hand-written stub in the working tree against the module that was just built.
stubs: install
	MYPYPATH=python $(BIN)/python -m mypy.stubtest memristore._core \
	  --mypy-config-file pyproject.toml --allowlist tests/stubtest_allowlist.txt

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CXX_FILES)

bench: install
	@for script in $(BENCHES); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache $(VENV)/installed

distclean: clean
	rm -rf $(VENV)
