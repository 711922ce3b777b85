# make demo, make test: both install what they need into .venv on the first call.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LINKS  := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
UV     := $(BIN)/uv pip install -q --python $(BIN)/python $(LINKS) -c constraints.txt --overrides overrides.txt

.PHONY: demo test coverage check format clean

demo: $(STAMP)
	$(BIN)/q2 transform --out runs/demo

test: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

coverage: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --cov=q2 --cov-report=term:skip-covered

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt overrides.txt tools/install_torchsort.py
	$(PYTHON) -c 'import sys; sys.exit("q2 needs Python 3.11 or newer; say make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install -q --progress-bar off -c constraints.txt uv
	$(UV) -e '.[dev]'
	$(BIN)/python tools/install_torchsort.py
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
