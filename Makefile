# `make book` renders the book, `make test` runs every test. The environment is made on the way.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PROFILE ?= demo
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all
OUT := _build/$(PROFILE)
# The road from cohort to book stands in workflow/Snakefile, for this machine and for a cluster.
# Without a GPU to share, two notebooks run at once.
GPUS := $(if $(shell command -v nvidia-smi),1,2)
SNAKEMAKE = $(BIN)/snakemake --cores $(CORES) --resources gpu=$(GPUS) --config profile=$(PROFILE) --

# uv reads its own variables only; where pip was told of a folder of wheels, uv is told too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Without compiled bytecode every import of torch takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
# Kernels start in notebooks/: a relative folder of real data would be another one there.
ifdef BRAINVAE_DATA
override BRAINVAE_DATA := $(abspath $(BRAINVAE_DATA))
export BRAINVAE_DATA
endif
# The environment's kernels only, whatever the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

# `make acquire KEEP=folder ASK='--sex F --limit 40' FETCH='--workers 4 --rate-limit 20'`
KEEP ?= data/allen
ASK ?=
FETCH ?=
ACQUIRE = $(BIN)/python -m brainvae_core.cohorts.allen

.PHONY: help env check fit test book html records ccf acquire rehearsal notebooks nightly lint bench clean clean-all FORCE

help:
	@echo 'make book       run every notebook (PROFILE=$(PROFILE), CORES=$(CORES)) and render the book'
	@echo 'make html       render the book from the committed notebooks as they were executed'
	@echo 'make test       every test: unit tests, fitted models, executed notebooks'
	@echo 'make check      unit tests and lint only'
	@echo 'make fit        make the cohort and fit the models of a profile, without notebooks'
	@echo 'make records    keep the numbers of a profile for the ledger: make records PROFILE=ccf'
	@echo 'make ccf        the book on the real CCF slice with a real brain (BRAINVAE_DATA=folder)'
	@echo 'make acquire    the Allen cohort, one section a brain, to KEEP=$(KEEP); $(ACQUIRE) --help'
	@echo 'make rehearsal  the same from a local server that misbehaves, 60 brains, and the book of them'
	@echo 'make notebooks  refresh the outputs of the committed notebooks'
	@echo 'make nightly    make test with long property tests'
	@echo 'make bench      speed and scale measured on this machine; BENCH=--small in minutes'
	@echo 'make clean      say what would be freed; make clean-all frees it'

env: .venv/made
.venv/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	@echo '── environment'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode -c constraints.txt -e '.[book]'
	touch $@

# AllenSDK needs NumPy 1 and Python 3.11: an environment of its own, which only asks.
.venv-acquire/made: constraints-acquire.txt .venv/made
	@echo '── acquisition environment (AllenSDK)'
	$(BIN)/uv venv --quiet --clear --python 3.11 .venv-acquire
	VIRTUAL_ENV=.venv-acquire $(BIN)/uv pip install --compile-bytecode -r constraints-acquire.txt
	touch $@

# One thread a worker: two that share two cores wait for each other many times longer.
PYTEST_TWO = OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2

lint: .venv/made
	$(BIN)/ruff check brainvae_core tests benchmarks notebooks book/_ext
	$(BIN)/ruff format --check brainvae_core tests benchmarks notebooks book/_ext

check: lint
	$(PYTEST_TWO) -m 'not fitted and not server and not workflow and not book' tests

test: .venv-acquire/made check fit
	@echo '── the acquisition against a local server that misbehaves'
	$(PYTEST_TWO) --dist loadfile -m server tests
	@echo '── the road, killed and taken up again, and submitted to a cluster that is not there'
	$(PYTEST_TWO) --dist loadfile -m workflow tests
	@echo '── tests on the fitted models'
	$(BIN)/pytest -q -m fitted tests
	@echo '── the notebooks against their committed outputs, one thread a kernel: two run at once'
	OMP_NUM_THREADS=1 $(BIN)/pytest -v -n 2 --dist loadfile --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg notebooks
	$(MAKE) html
	@echo '── the pages, in a browser'
	$(PYTEST_TWO) -m book tests

nightly: .venv/made
	HYPOTHESIS_PROFILE=nightly $(MAKE) test

# The profile's cohort and every model of it; what is there already is loaded.
fit: .venv/made
	$(SNAKEMAKE) fit

book: .venv/made
	$(SNAKEMAKE) book
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

# The committed notebooks are the demo's.
html: .venv/made
	$(BIN)/snakemake --cores $(CORES) --config profile=demo executed=notebooks -- book
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

# What a profile's book recorded, to stand beside the demo's numbers in the ledger.
records: .venv/made
	$(BIN)/python -m brainvae_core.record $(OUT)/notebooks book/records/$(PROFILE).json

# Any file of the road, such as $(OUT)/notebooks/04_training.ipynb.
$(OUT)/%: .venv/made FORCE
	$(SNAKEMAKE) $@

ccf:
	@test -n "$${BRAINVAE_DATA:-}" || { echo 'error: set BRAINVAE_DATA to the folder with the atlas; see the README'; exit 1; }
	$(MAKE) book PROFILE=ccf

acquire: .venv/made .venv-acquire/made
	$(ACQUIRE) $(KEEP) $(ASK) $(FETCH)

# The refused brains are the server's doing: that some were is part of the rehearsal.
rehearsal: .venv/made .venv-acquire/made
	$(BIN)/python tests/rehearse.py data/rehearsal
	$(MAKE) book PROFILE=rehearsal

# Rows of the grid are fitted by a notebook: as the script beside it now is.
notebooks: .venv/made
	$(BIN)/jupytext -q --to ipynb --set-kernel python3 notebooks/*.py
	$(MAKE) fit
	printf '%s\n' notebooks/*.ipynb | OMP_NUM_THREADS=1 TQDM_DISABLE=1 \
	  xargs -P 2 -I{} sh -c 'echo "── {}"; $(BIN)/jupyter execute --inplace {}'

# pythae, a peer of the benchmarks, in an environment of its own.
.venv-peers/made: benchmarks/peers/constraints.txt .venv/made
	@echo "── environment of the benchmarks' peers"
	$(BIN)/uv venv --quiet --clear --python 3.11 .venv-peers
	VIRTUAL_ENV=.venv-peers $(BIN)/uv pip install --compile-bytecode -r benchmarks/peers/constraints.txt
	touch $@

# What is claimed of speed and scale, measured here; on a CPU BENCH=--small.
BENCH ?=
bench: .venv/made .venv-peers/made
	$(BIN)/python benchmarks/gpu.py $(BENCH)
	$(BIN)/python benchmarks/scale.py $(BENCH)
	$(BIN)/python benchmarks/fig2.py $(BENCH)
	$(BIN)/python benchmarks/bidirectional.py $(BENCH)
	if [ -f _build/html/book/explorer.html ]; then $(BIN)/python benchmarks/explorer.py; fi

clean:
	@du -sh _build .snakemake runs data .venv .venv-acquire .venv-peers 2>/dev/null || true
	@echo 'make clean-all removes these'
clean-all:
	rm -rf _build .snakemake runs data .venv .venv-acquire .venv-peers
