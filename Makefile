# Everything that people and CI do here. A machine with Debian's python3 and python3-venv will do.
#
#   make run      serve the demo application          BIND=127.0.0.1:8000 WORKERS=2
#   make test     run every test                      ARGS="-k websocket"  JOBS=4  WITH=browser
#   make lint     ruff and mypy
#   make matrix   the tests that depend on it, on other Pythons and Gunicorns
#   make coverage the tests, and which lines they have not run
#   make fuzz     bytes that nobody would think of    SECONDS=600
#   make autobahn the Autobahn suite for WebSockets   LOOPS=uvloop  CASES="1.* 9.3.1"  CASES=short
#   make bench    compare with other servers          ARGS="--workloads ws-64,hello --rounds 9"
#   make bench-scale  ten thousand idle WebSockets    ARGS="--sockets 1000 --idle 10"
#   make bench-footprint  memory, start-up, fairness  ARGS="--connections 1000 --starts 3"
#   make budget   frames and allocations per request
#   make clean    remove what make has made

PYTHON ?= python3
BIND ?= 127.0.0.1:8000
WORKERS ?= 2
# Live tests mostly wait for processes, so more of them than there are cores run side by side.
JOBS ?= 4
ARGS ?=
# What `make test` installs. `browser` adds what drives Chromium, a download of 53 MB, `frameworks` what
# the matrix of frameworks tries, and `all` is both: without CI=true only who asks for it gets it, and
# the tests that need it are skipped.
WITH ?= $(if $(filter true,$(CI)),all,test)
# How long `make fuzz` looks.
SECONDS ?= 600
# What `make autobahn` runs: loops, and cases (all of them; `short` is what .ci/run takes).
LOOPS ?= uvloop asyncio
CASES ?=

VENV := .venv
BIN := $(VENV)/bin
# The package is installed as users get it, not in place: a file that the wheel lacks is missed here.
# So each change of these reinstalls it (some seconds, the dependencies stay).
SOURCES := pyproject.toml README.md LICENSE \
	$(shell find gunicorn_asgi -type f -not -name '*.pyc' -not -path '*/__pycache__*')

# Hundreds of masters share the cores with each other here. What fails in that crowd is asked once
# more, alone, and in plain sight: a test that fails both times has failed.
define pytest
{ $(1) -n $(JOBS) --dist worksteal $(2) || $(1) --last-failed --last-failed-no-failures none $(2); }
endef

.PHONY: help run test lint matrix coverage fuzz autobahn bench bench-scale bench-footprint budget clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.with-nothing
	@echo "Serving the demo on http://$(BIND)/ (Ctrl-C ends it)"
	$(BIN)/gunicorn -k gunicorn_asgi.Worker -w $(WORKERS) -b $(BIND) gunicorn_asgi.demo:app

test: $(VENV)/.with-$(WITH)
	$(call pytest,$(BIN)/pytest,$(ARGS))

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/.with-coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# What it finds it puts into tests/fuzz/corpus, and fails.
fuzz: $(VENV)/.with-test
	PYTHONPATH=tests $(BIN)/python tests/fuzz/run.py $(SECONDS)

# Needs a Python 2.7; where there is none, this is a failure if CI=true and said clearly elsewhere.
autobahn: $(VENV)/.with-test
	PYTHONPATH=tests $(BIN)/python tests/autobahn/run.py \
		--loops $(LOOPS) --cases $(foreach case,$(CASES),'$(case)')

# The servers to compare with have an environment of their own, and so have we there. HTTP needs wrk.
bench: .venvs/bench/.installed
	.venvs/bench/bin/python bench/compare.py $(ARGS)

bench-scale: .venvs/bench/.installed
	.venvs/bench/bin/python bench/scale.py $(ARGS)

bench-footprint: .venvs/bench/.installed
	.venvs/bench/bin/python bench/footprint.py $(ARGS)

budget: $(VENV)/.with-nothing
	$(BIN)/python bench/budget.py

clean:
	rm -rf $(VENV) .venvs dist build .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.*

# One stamp for each set of extras, in one environment.
extras-test := [test]
extras-browser := [test,browser]
extras-frameworks := [test,frameworks]
extras-all := [test,browser,frameworks]
extras-lint := [test,browser,lint]
extras-coverage := [test,coverage]

$(VENV)/.python:
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/.with-%: $(VENV)/.python $(SOURCES)
	$(BIN)/pip install -q --disable-pip-version-check ".$(extras-$*)"
	touch $@

# The matrix: PYTHON-GUNICORN, each with an environment of its own. `make test` covers what `python3`
# and the newest Gunicorn make of it; these are the ends of what pyproject.toml promises.
MATRIX ?= 3.10-23.0.0 3.11-23.0.0 3.13-27.0.1
# What can differ there: parsing, loops, processes. Not the guards over the source.
MATRIX_TESTS ?= $(filter-out tests/kit tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/))) \
	$(wildcard tests/test_kit.py tests/test_host_contract.py)

matrix: $(addprefix matrix-,$(MATRIX))

# A Python that is missing is a failure where CI=true and said clearly elsewhere.
matrix-%:
	@python=$$(.ci/find-python $(firstword $(subst -, ,$*))) || { \
		echo "$@: SKIPPED, there is no Python $(firstword $(subst -, ,$*)) here"; \
		[ "$(CI)" != true ]; exit $$?; \
	}; \
	$(MAKE) --no-print-directory .venvs/$*/.installed INTERPRETER=$$python && \
	echo "$@: Python $(firstword $(subst -, ,$*)), Gunicorn $(lastword $(subst -, ,$*))" && \
	$(call pytest,.venvs/$*/bin/pytest,-m 'not endurance and not browser' $(MATRIX_TESTS) $(ARGS))

.venvs/bench/.installed: $(SOURCES)
	[ -x .venvs/bench/bin/pip ] || $(PYTHON) -m venv --clear .venvs/bench
	.venvs/bench/bin/pip install -q --disable-pip-version-check ".[bench,speedups]"
	touch $@

.venvs/%/.installed: $(SOURCES)
	[ -x .venvs/$*/bin/pip ] || $(INTERPRETER) -m venv --clear .venvs/$*
	.venvs/$*/bin/pip install -q --disable-pip-version-check \
		".[test,frameworks]" "gunicorn==$(lastword $(subst -, ,$*))"
	touch $@
