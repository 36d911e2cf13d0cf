# make demo   set up, then reproduce CFM's Table 6 on the embedded data (CPU=1: PyTorch without its GPU libraries)
# make check  under three minutes: layout, lint, structure, export, types, and the notebooks that you changed
# make test   set up, then everything that CI checks
# make lab    the notebooks in JupyterLab        make export   notebooks -> library, after editing
# make outputs [NB=nbs/...]   run notebooks at laptop scale and store what they show        make clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
CONSTRAINTS ?=
# what an installation was seen to take, with its temporary files
NEEDS_MB := $(if $(CPU),3500,8500)
CATEGORIES ?= puck tile
SCALE ?= laptop
# make check: notebooks that differ from this commit are run
BASE ?= HEAD
# with CPU=1: where PyTorch's wheels without GPU libraries are
CPU ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST ?=
# processes that the tests run in: one a core, with one thread each
WORKERS ?= 2
NB ?=
say = @printf '\n== %s  %s\n' "$$(date +%H:%M:%S)"

.PHONY: demo check test lab export outputs setup clean

setup: $(READY)

# Everything below runs once, and again when the list of dependencies changes.
$(READY): settings.ini setup.py
	@[ -n "$(PYTHON)" ] || { echo "mvad needs Python 3.10 or newer; none was found. make PYTHON=/path/to/python3 names one." >&2; exit 1; }
	@free=$$(df -Pm "$$(dirname "$(VENV)")" 2>/dev/null | awk 'NR == 2 {print $$4}'); [ -e "$(VENV)" ] || [ "$${free:-$(NEEDS_MB)}" -ge $(NEEDS_MB) ] || { \
		echo "$(VENV) needs $(NEEDS_MB) MB of disk and $$free MB are free: make room, put it elsewhere (make VENV=/path/to/venv), or take" \
			"PyTorch's CPU build, which is some 5 GB smaller (README, Good to know)." >&2; exit 1; }
	$(say) "system libraries"
	@.ci/system $(PYTHON) venv open3d
	$(say) "installing into $(VENV) (about 3 minutes, 8 GB: torch brings its GPU libraries)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(if $(CPU),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[dev]'
	@# open3d brings dash, whose old extension makes JupyterLab ask for a rebuild over every page: do not ask
	@mkdir -p $(VENV)/etc/jupyter/labconfig
	@printf '%s\n' '{"buildCheck": false, "buildAvailable": false, "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' \
		> $(VENV)/etc/jupyter/labconfig/page_config.json
	@touch $@

demo: $(READY)
	$(say) "CFM, Table 6, on embedded data: $(CATEGORIES)"
	$(BIN)/mvad reproduce cfm/6 --scale $(SCALE) --category $(CATEGORIES) --seed 0 --out out/demo

check: $(READY)
	$(say) "layout and lint"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(say) "types of the verbs"
	$(BIN)/mypy --config-file tests/mypy.ini
	$(say) "structure, export, imports"
	$(BIN)/python -m pytest -q tests/test_structure.py tests/test_export.py tests/test_imports.py tests/test_outputs.py
	$(say) "notebooks that differ from $(BASE)"
	$(BIN)/python tests/touched.py $(BASE)
	$(say) "all checks passed; make test runs everything"

# The gates "export changes nothing" and "clean changes nothing" are tests too (tests/test_export.py): they work on a copy.
test: $(READY)
	@.ci/system $(PYTHON) browser || [ -z "$${CI:-}" ]
	$(say) "ruff"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(say) "pytest"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=25 $(PYTEST)
	$(say) "all checks passed"

lab: $(READY)
	$(BIN)/jupyter-lab nbs/index.ipynb

export: $(READY)
	$(BIN)/ruff format nbs && $(BIN)/nbdev_export && $(BIN)/ruff format mvad && $(BIN)/nbdev_clean

outputs: $(READY)
	$(BIN)/python tests/outputs.py $(NB)

clean:
	rm -rf out build dist *.egg-info nbs/_* nbs/.last_checked .coverage* .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
