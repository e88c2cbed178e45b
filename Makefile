# Everything does its own set-up: Python 3.11 or later, with venv, is all that must be there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RAY    := $(VENV)/.ray
DOCS   := .cache/docs
# Hundreds of processes import the package in a run of the tests: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE
export SONANT_SPEECH_CACHE ?= $(CURDIR)/.cache/speech

.PHONY: demo test test-all serve lint bench docs release audit clean

# What is installed is locked and hashed (locks/, tools/lock.py): pip resolves nothing, takes wheels only, and refuses
# a file that is not the one that was locked, from whatever registry it comes.
PIP    := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:
LOCKED := $(BIN)/python $(PIP)

# Made anew only when the packaging changes, so a second run needs no network.
$(READY): pyproject.toml locks/dev.txt locks/cli.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sonant needs Python 3.11 or later; name one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import sys, sysconfig; sys.exit("musl" in str(sysconfig.get_config_var("SOABI")) and "Sonant needs a system with glibc, such as Debian, Ubuntu or Fedora: ONNX Runtime comes with no wheel for musl (Alpine)")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) -r locks/dev.txt -r locks/cli.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Large, and only slow tests use it.
$(RAY): $(READY) locks/ray.txt
	$(LOCKED) -r locks/ray.txt
	@touch $@

# In an environment of its own: the AWS CLI needs an older docutils.
$(DOCS)/.ready: locks/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP) -r locks/docs.txt
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

# The documentation site, in build/docs.
docs: $(READY) $(DOCS)/.ready
	$(BIN)/python tools/docs_site/build_site.py --sphinx $(DOCS)/bin/python

# Wheel, source, SBOMs, provenance and checksums in dist/.
release: $(READY)
	$(BIN)/python tools/release.py

# Known vulnerabilities of what is locked; asks a service on the network, so it is no part of `test`.
audit: $(READY)
	$(BIN)/python tools/audit.py

clean:
	rm -rf $(VENV) .cache build dist
