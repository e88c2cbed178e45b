# Everything does its own set-up: Python 3.11 or later, with venv, is all that must be there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RAY    := $(VENV)/.ray
# Hundreds of processes import the package in a run of the tests: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE
export SONANT_SPEECH_CACHE ?= $(CURDIR)/.cache/speech

.PHONY: demo test test-all serve lint bench clean

# Made anew only when the packaging changes, so a second run needs no network. The pip that Python brings may be
# old: it downloads whole packages to read their requirements, hundreds of them before all fit together.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sonant needs Python 3.11 or later; name one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import sys, sysconfig; sys.exit("musl" in str(sysconfig.get_config_var("SOABI")) and "Sonant needs a system with glibc, such as Debian, Ubuntu or Fedora: ONNX Runtime comes with no wheel for musl (Alpine)")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --editable '.[cli,dev]'
	@touch $@

# Large, and only slow tests use it.
$(RAY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --editable '.[ray]'
	@touch $@

demo: $(READY)
	$(BIN)/sonant demo --cache $(SONANT_SPEECH_CACHE)

# With SONANT_TESTS_MUST_RUN=1 a skipped test fails the run. Fetching speech first keeps a slow network out of the tests' time limits.
test: $(READY)
	$(BIN)/python -m sonant.demo.speech $(SONANT_SPEECH_CACHE)
	$(BIN)/python -m pytest

test-all: $(READY) $(RAY)
	$(BIN)/python -m sonant.demo.speech $(SONANT_SPEECH_CACHE)
	$(BIN)/python -m pytest -m 'slow or not slow' --hypothesis-profile search

serve: $(READY)
	$(BIN)/sonant serve

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Each folder of tests has a conftest of its own, and one run of mypy takes one module of a name.
	for file in $$(find tests -mindepth 2 -name conftest.py); do $(BIN)/mypy --no-error-summary $$file || exit 1; done
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .cache build dist
