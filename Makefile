# `make demo`, `make app` and `make test`: each makes a virtual environment, installs the wheel and runs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

.PHONY: demo app test check docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/sightline demo --out demo-output

app: $(VENV)/.demo
	$(BIN)/sightline app

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 tests

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/make_docs.py --check

docs: $(VENV)/.dev
	$(BIN)/python tools/make_docs.py

clean:
	rm -rf $(VENV) build demo-output

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("sightline needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	touch $@

# A wheel, built and installed as a user would have it: never the source tree.
$(VENV)/.demo: $(VENV)/.made $(SOURCES) constraints.txt
	rm -rf build/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PIP) install --quiet --constraint constraints.txt "$$(ls build/wheel/*.whl)[zoo,app,train,batch]"
	$(PIP) install --quiet --force-reinstall --no-deps build/wheel/*.whl
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --quiet --constraint constraints.txt "$$(ls build/wheel/*.whl)[dev]"
	touch $@
