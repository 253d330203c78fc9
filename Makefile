# Everything a newcomer needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DAGSTER_HOME := $(CURDIR)/.dagster
export DAGSTER_DISABLE_TELEMETRY := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# beta and supersession notices of libraries drown the job's own lines
export PYTHONWARNINGS := ignore
# where it is set, every process compiles all modules again: a third of the time that `dagster` takes to start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup new compare demo paper-demo doctor plan verify gc refresh prepare synthesize export anonymise train evaluate stock repro test test-fast check dev clean

help:
	@echo "make demo         run the main job on the demo city and print the tables"
	@echo "make paper-demo   the same with the three generators of the paper"
	@echo "make test         run all tests"
	@echo "make test-fast    the quick ones, for the inner loop"
	@echo "make doctor       examine models, data, device, disk, time and money of a params file; CALIBRATE=1 measures times"
	@echo "make plan         what a refresh would make, why, and how long it would take"
	@echo "make compare A=results B=other/results   two runs on one page: settings, tables, crops (docs/running.md)"
	@echo "make gc           list artifacts that no params file wants any more; REMOVE=1 removes them"
	@echo "make verify       compare every artifact with its digest; a refresh makes again what is damaged"
	@echo "make refresh      make whatever is stale (INSTSYNTH_PARAMS=profiles/cityscapes.yaml for the paper's setting)"
	@echo "make repro        the same through DVC: dvc repro, which also takes stock of data and artifacts"
	@echo "make prepare | synthesize | train | evaluate   up to the end of that phase"
	@echo "make export       IS-Cityscapes as a Cityscapes tree and COCO JSON, without training"
	@echo "make anonymise    the data set with people, cars, ... repainted or coarse (INSTSYNTH_PARAMS=profiles/anonymise.yaml)"
	@echo "make new COCO=annotations.json IMAGES=photos > params.yaml   a params file for your own data (docs/data.md),"
	@echo "              or FORMAT=yolo (voc, cvat, ...) ANNOTATIONS=data.yaml, with VAL= for annotations of val images"
	@echo "make dev          the Dagster UI on http://localhost:3000, or PORT=<number>"
	@echo "make check        linter, formatter, type checker"

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed, got " + sys.version'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

setup: $(VENV)/.installed

$(DAGSTER_HOME)/dagster.yaml: deploy/single/dagster.yaml
	mkdir -p $(DAGSTER_HOME) && cp $< $@

demo refresh prepare synthesize export anonymise train evaluate: setup $(DAGSTER_HOME)/dagster.yaml
	@$(BIN)/python -m jobs.execute $@
	@test $@ != demo || $(MAKE) --silent stock

doctor: setup
	@$(BIN)/python -m jobs.doctor $(if $(CALIBRATE),--calibrate)

# standard output is the params file; the output of a first setup goes to standard error
new: ANNOTATIONS := $(or $(ANNOTATIONS),$(COCO))
new:
	@$(MAKE) --silent setup >&2
	@$(BIN)/python -m instsynth_dagster.new --format "$(or $(FORMAT),coco)" \
	  $(if $(ANNOTATIONS),--annotations "$(ANNOTATIONS)") $(if $(VAL),--annotations-val "$(VAL)") --images "$(IMAGES)"

plan: setup
	@$(BIN)/python -m jobs.planning

compare: setup
	@$(BIN)/python -m jobs.compare "$(A)" "$(B)"

gc: setup
	@$(BIN)/python -m jobs.gc $(if $(REMOVE),--remove)

verify: setup
	@$(BIN)/python -m jobs.verify

# records the demo's artifacts in DVC, so that `dvc status` is clean after it
stock: setup
	@if [ -z "$$INSTSYNTH_PARAMS" ] && ! [ dvc.lock -nt artifacts/.changed ]; then \
	  $(BIN)/dvc --quiet commit data.dvc 2>/dev/null \
	    || echo "data/ is not what data.dvc names; if that is meant: $(BIN)/dvc add data"; \
	  $(BIN)/dvc --quiet commit --force dvc.yaml; fi

# DVC does not start without the data; the demo draws its own
repro: setup
	@test -d data/shifted_city || $(MAKE) --silent prepare
	@$(BIN)/python -m jobs.reproduce

paper-demo: export INSTSYNTH_PARAMS := profiles/paper_demo.yaml
paper-demo: demo

dev: setup $(DAGSTER_HOME)/dagster.yaml
	@$(BIN)/python -m jobs.dev $(if $(PORT),--port $(PORT))

# a process for each core; the inner loop leaves out what is marked as slow
test: setup
	$(BIN)/python -m pytest -n logical --dist worksteal

test-fast: setup
	$(BIN)/python -m pytest -n logical --dist worksteal -m "not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf artifacts exports data/demo_city data/shifted_city .dagster
