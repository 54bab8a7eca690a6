# What people type, and what CI runs. Logic is in scripts/.
.PHONY: help setup demo lab test check lint bench format clean
.DELETE_ON_ERROR:

RUN := .venv/bin

help:
	@echo "make setup   install what is missing (sudo is asked for system packages) and make .venv"
	@echo "make demo    run the first notebook on this machine's kernel; leaves a page with its charts"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make test    every test: unit, live, browser, notebooks"
	@echo "make check   all that CI runs: formatting, linting, types, tests"
	@echo "make bench   the speed table: ratios against BCC, bpftrace and a C program"
	@echo "make clean   remove .venv and everything made here"

# One stamp for each set of extras; a changed pyproject.toml installs again.
.venv/.has-%: pyproject.toml scripts/setup-venv
	@scripts/setup-venv $*
	@touch $@

.PHONY: system-run system-test system-bench
system-run system-test system-bench: system-%:
	@scripts/setup-system $*

# System packages first: they may bring the Python that makes .venv.
.venv/.has-demo .venv/.has-lab .venv/.has-test .venv/.has-dev: | system-run

setup: .venv/.has-demo .venv/.has-lab

demo: setup
	@$(RUN)/python -m ebpf_magic.cli demo --output build/demo

lab: setup
	$(RUN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

test: .venv/.has-test system-test
	@$(RUN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/.has-dev
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

check: lint test

format: .venv/.has-dev
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

bench: .venv/.has-test system-bench
	@$(RUN)/python tests/bench $(BENCH_ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
