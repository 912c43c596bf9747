# `make demo` and `make test` need only Python 3.11, git and make: everything else goes into .venv.
PYTHON ?= python3.11
BIN := .venv/bin
ANNY_CACHE_DIR ?= $(CURDIR)/.cache/anny
export ANNY_CACHE_DIR
# processes of the tests, one thread each
JOBS ?= 2

.PHONY: demo test lint format bench clean

demo: .venv/installed
	$(BIN)/avatar-kit demo --out out/demo --overwrite

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyright

bench: .venv/installed-dev
	$(BIN)/python benchmarks/kernels.py

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps h3ds==0.4.0  # a yardstick; what it asks for would replace OpenCV
	touch $@

clean:
	rm -rf .venv .cache build out *.egg-info
