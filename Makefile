# make demo, make test: both install what they need into .venv on the first call; the second needs more.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.development
LINKS  := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
UV     := $(BIN)/uv pip install -q --python $(BIN)/python $(LINKS) -c constraints.txt --overrides overrides.txt

.PHONY: demo test blocks coverage check format wheel docs bench bench-quick clean

# Commands import some 2,800 modules each: what Python compiles of them is kept, whatever the environment says.
test blocks coverage check wheel docs bench bench-quick: export PYTHONDONTWRITEBYTECODE =

demo: $(STAMP)
	$(BIN)/q2 transform --set samples.images=100 --out runs/demo

test: $(DEV)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Every block of code of the documentation, those too that take longer than a test may.
blocks: $(DEV)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist load tests/docs/long_blocks.py tests/docs/test_blocks.py

coverage: $(DEV)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --cov=q2 --cov-report=term:skip-covered

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt overrides.txt
	@$(PYTHON) -c 'import sys; sys.exit("q2 needs Python 3.11 or newer; say make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	@echo 'q2 and what it needs go into $(VENV) (1.5 GB)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --progress-bar off -c constraints.txt uv
	@$(UV) -e .
	@touch $@

$(DEV): $(STAMP) tools/install_torchsort.py tools/install_chromium.py
	$(UV) -e '.[dev]'
	$(BIN)/python tools/install_torchsort.py
	$(BIN)/python tools/install_chromium.py
	touch $@

# Builds the wheel and tries it in an environment of its own, as somebody who has only that file.
wheel: $(DEV)
	$(BIN)/python tools/try_wheel.py

# Builds the documentation into site/: the reference is made from the code, and a dead link is an error.
docs: $(DEV)
	DISABLE_MKDOCS_2_WARNING=true HF_HUB_OFFLINE=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html, or: $(BIN)/python -m http.server --directory site"

# Measures everything, for minutes, into benchmarks/results.json and docs/benchmarks.md.
bench: $(DEV)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.run --write

# The quick part, compared with the stored results: an error if a ratio is twice as bad.
bench-quick: $(DEV)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.run --quick --check

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
