# Everything here works from a fresh clone: the first target that needs it makes the .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

# Idle threads sleep instead of spinning: on shared cores spinning slows small steps many times over.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup example test test-slow soak lint docs house bench

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,evaluate]'
	touch $(READY)

example: $(READY)
	$(BIN)/mmaudio example

test: $(READY)
	$(PYTEST)

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'slow or slurm'

# Full counts (kills, flipped bytes) behind what test-slow samples; SOAK_SEED=N repeats a run.
soak: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m soak

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# How hard the code is to know, with aims; fails for a circle of imports, a doubled file name, or a story step that is gone.
house: $(READY)
	$(BIN)/python -m tools.house

# The site of docs/, in build/site. A dead link, or a page that is in no menu, is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/python -m benchmarks
