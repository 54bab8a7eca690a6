# What people type, and what CI runs. Logic is in scripts/.
.PHONY: help setup demo lab test test-vm kernels collection check lint bench format clean
.DELETE_ON_ERROR:

RUN := .venv/bin
VM_KERNELS := 6.1 6.12

help:
	@echo "make setup   install what is missing (sudo is asked for system packages) and make .venv"
	@echo "make demo    run the first notebook, on this machine's kernel or (without the right to) in a VM; leaves a page"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make test    every test: unit, live, in VMs, browser, notebooks"
	@echo "make test-vm the live tests that fit any kernel, in VMs of 6.1 and 6.12"
	@echo "make collection  a program for each kind of program and map, on three kernels; its table in README"
	@echo "make check   all that CI runs: formatting, linting, types, tests"
	@echo "make bench   the speed table: ratios against BCC, bpftrace and a C program"
	@echo "make clean   remove .venv and everything made here"

# One stamp for each set of extras; a changed pyproject.toml installs again.
.venv/.has-%: pyproject.toml scripts/setup-venv
	@scripts/setup-venv $*
	@touch $@

.PHONY: system-run system-test system-bench system-vm
system-run system-test system-bench system-vm: system-%:
	@scripts/setup-system $*

# System packages first: they may bring the Python that makes .venv.
.venv/.has-demo .venv/.has-lab .venv/.has-test .venv/.has-dev: | system-run

setup: .venv/.has-demo .venv/.has-lab

demo: setup
	@$(RUN)/python -m ebpf_magic.cli demo --output build/demo

lab: setup
	$(RUN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

test: .venv/.has-test system-test kernels
	@$(RUN)/python -m pytest $(PYTEST_ARGS)
	@scripts/test-vm $(VM_KERNELS)

kernels: .venv/.has-test system-vm
	@$(RUN)/ebpf-magic kernel fetch --missing $(VM_KERNELS)

test-vm: kernels
	@scripts/test-vm $(VM_KERNELS)

collection: kernels
	@$(RUN)/python tests/collection auto $(VM_KERNELS:%=vm:%)

lint: .venv/.has-dev
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

check: lint test

format: .venv/.has-dev
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

bench: .venv/.has-test system-bench kernels
	@$(RUN)/python tests/bench $(BENCH_ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
