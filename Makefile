# `make book` makes the book, `make test` tests it all but for what a night is for. The environment is made on the way.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PROFILE ?= demo
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all
# The road stands in workflow/Snakefile. Without a GPU to share, two notebooks run at once.
GPUS := $(if $(shell command -v nvidia-smi),1,2)
SNAKEMAKE = $(BIN)/snakemake --cores $(CORES) --resources gpu=$(GPUS) --config profile='"'"$$PROFILE"'"' --
# One thread a worker: two that share two cores wait for each other many times longer.
# A file's tests stay in one worker, so that what they share is made once.
PYTEST_TWO = OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile
# uv reads its own variables only; where pip was told of a folder of wheels, uv is told too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Without compiled bytecode every import of torch takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
# Kernels start in notebooks/: a relative folder of real data would be another one there.
# (abspath would make two folders of one whose name has a blank.)
ifdef BRAINVAE_DATA
override BRAINVAE_DATA := $(if $(filter /%,$(firstword $(BRAINVAE_DATA))),,$(CURDIR)/)$(BRAINVAE_DATA)
export BRAINVAE_DATA
endif
# The environment's kernels only, whatever the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

KEEP ?= data/allen
BRAINS ?= simulated
GROUP ?=
COVARIATES ?=
ORIENTATION ?= header
AUTHORS ?= data/authors
ATLAS ?= $(wildcard data/allen/atlas)
export KEEP PROFILE AUTHORS ARRAY CHECKPOINT ATLAS BRAINS GROUP COVARIATES ORIENTATION

.PHONY: help env check fit test outputs book html report ccf authors acquire rehearsal notebooks full nightly promises soak lint bench lock sbom audit clean clean-all
help: ## this list; PROFILE=demo, CORES=all, KEEP=data/allen, BRAINVAE_DATA and BENCH=--small may be given
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1: \2/p' Makefile

env: .venv/made ## the environment alone
.venv/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11.5 or newer is needed: make PYTHON=python3.11"; exit 1; }
	@echo '── environment'
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .venv/uv.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode -c constraints.txt -b constraints.txt -e '.[book]'
	touch $@

# An environment of its own: AllenSDK, which only asks, needs NumPy 1.
.venv-acquire/made: .venv/made constraints-acquire.txt
	@echo '── environment $(@D)'
	$(BIN)/uv venv --quiet --clear --python 3.11 $(@D)
	VIRTUAL_ENV=$(@D) $(BIN)/uv pip install --compile-bytecode -r constraints-acquire.txt
	touch $@

lint: .venv/made ## ruff on every script
	$(BIN)/ruff check brainvae_core tests benchmarks notebooks book/_ext
	$(BIN)/ruff format --check brainvae_core tests benchmarks notebooks book/_ext

check: lint ## lint and the quick unit tests
	$(PYTEST_TWO) -m 'not slow and not fitted and not server and not workflow and not book' tests

# Chapters executed against their outputs: here those that need few fits and few minutes, every night all.
SAMPLE ?= 02 04 05 09

test: .venv-acquire/made check ## every test but those for a night, of the chapters' outputs a sample; make nightly takes all
	for profile in demo full; do $(BIN)/snakemake --cores $(CORES) --config profile=$$profile -- _build/$$profile/compared; done
	@echo '── slow tests, the acquisition against a local server that misbehaves, the road, killed and taken up again, the fitted models'
	$(PYTEST_TWO) -m 'slow or server or workflow or fitted' tests
	@echo '── notebooks against their committed outputs, and the pages, which take one core'
	$(MAKE) -j 2 outputs html
	@echo '── the pages, in a browser'
	$(PYTEST_TWO) --dist load -m book tests

promises: .venv-acquire/made html ## run the tests that keep promises, and write the table of tests/README.md
	status=0; $(PYTEST_TWO) -m promise --junitxml _build/promises.xml tests || status=$$?; \
	  $(BIN)/python tests/promises.py _build/promises.xml; exit $$status

MINUTES ?= 60
soak: .venv/made ## fits and analyses for MINUTES=60 in one process: memory, files and speed have to stay
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py --device cpu --minutes $(MINUTES)

# One thread a kernel: two run at once.
outputs: .venv/made
	OMP_NUM_THREADS=1 $(BIN)/pytest -v -n 2 --dist loadfile --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg \
	  $(foreach chapter,$(SAMPLE),$(wildcard notebooks/$(chapter)_*.ipynb))

nightly: .venv/made ## make test with long property tests and every chapter
	HYPOTHESIS_PROFILE=nightly $(MAKE) test SAMPLE="$$(cd notebooks && echo *.ipynb | sed -E 's/_[^ ]*//g')"
	$(MAKE) soak MINUTES=5

fit: .venv/made ## make a profile's cohort and fit its models, without notebooks; what is there is loaded
	$(SNAKEMAKE) fit

book: .venv/made ## run every notebook with a profile and render the book
	$(SNAKEMAKE) book
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

html: .venv/made ## render the book from the committed notebooks, which are of the profile full, as they were executed
	$(BIN)/snakemake --cores $(CORES) --config profile=full executed=notebooks -- book
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

report: .venv/made ## a lab's own brains: BRAINS=folder GROUP=genotype COVARIATES='sex, age_days', to _build/reports
	$(BIN)/python -m brainvae_core.report "$$BRAINS" --group "$$GROUP" --covariates "$$COVARIATES" \
	  --orientation "$$ORIENTATION" --profile "$(if $(filter file,$(origin PROFILE)),full,$$PROFILE)"

ccf: ## the book on the real CCF slice with a real brain (BRAINVAE_DATA=folder)
	@test -n "$${BRAINVAE_DATA:-}" || { echo 'error: set BRAINVAE_DATA to the folder with the atlas; see book/running.md'; exit 1; }
	$(MAKE) book PROFILE=ccf

# Paths or addresses; without them the addresses that the authors' notebook links.
authors: .venv/made ## the paper's own sections and model (ARRAY=file.npy CHECKPOINT=file ATLAS=folder), to data/authors
	$(BIN)/python -m brainvae_core.authors "$$AUTHORS" --array "$$ARRAY" --checkpoint "$$CHECKPOINT" --atlas "$$ATLAS"
	@echo 'then: make book PROFILE=authors, which reads data/authors'

# `make acquire KEEP=folder ASK='--sex F --limit 40' FETCH='--workers 4 --rate-limit 20'`
acquire: .venv/made .venv-acquire/made ## the Allen cohort, one section a brain, to KEEP
	$(BIN)/python -m brainvae_core.cohorts.allen "$$KEEP" $(ASK) $(FETCH)

# The refused brains are the server's doing: that some were is part of the rehearsal.
rehearsal: .venv/made .venv-acquire/made ## the same from a local server that misbehaves, 60 brains, and their book
	$(BIN)/python tests/rehearse.py data/rehearsal
	$(MAKE) book PROFILE=rehearsal

notebooks: .venv/made ## execute the committed notebooks anew, from results/
	$(BIN)/jupytext -q --to ipynb --set-kernel python3 notebooks/*.py
	printf '%s\n' notebooks/*.ipynb | OMP_NUM_THREADS=1 TQDM_DISABLE=1 \
	  xargs -P 2 -I{} sh -c 'echo "── {}"; $(BIN)/jupyter execute --inplace {}'

full: .venv/made ## fit and score what results/full lacks of its profile: hours
	$(BIN)/python -m brainvae_core.study full --only evaluated planted --keep
	$(BIN)/python -m brainvae_core.study full --only grid curve floors freeform smooth
	$(BIN)/python -m brainvae_core.results full
	$(BIN)/python -m brainvae_core.explorer full results/full/explorer_data.js

bench: .venv/made ## speed and scale measured on this machine, and what each tool finds of planted groups; BENCH=--small in minutes
	for one in reach scale fig2 bidirectional groups; do $(BIN)/python benchmarks/$$one.py $(BENCH); done
	if [ -f _build/html/book/explorer.html ]; then $(BIN)/python benchmarks/explorer.py; fi

lock: .venv/made ## pin every package's files by their hashes anew; LOCK=--upgrade takes newer versions
sbom: .venv/made ## the packages of both environments as CycloneDX, to _build/sbom.json
audit: .venv/made ## known vulnerabilities of both environments, where a database can be reached
lock sbom audit:
	$(BIN)/python workflow/supply.py $@ $(if $(filter lock,$@),$(LOCK))

MADE := _build .snakemake runs data .venv .venv-acquire
clean: ## say what would be freed; make clean-all frees it
	@du -sh $(MADE) 2>/dev/null || true
clean-all:
	rm -rf $(MADE)
