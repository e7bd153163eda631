# Each target makes what it needs. The environment is .venv; a stamp in it says which extra is installed already.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The CuPy build for the installed driver: "cuda13", "cuda12", or nothing where there is no NVIDIA driver.
# A driver runs the programs of its own CUDA version and of earlier ones.
# To choose: make demo CUDA=cuda12, or CUDA= for none.
CUDA ?= $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA[A-Za-z ]*Version: *\([0-9]*\).*/\1/p' | head -n 1 | \
	awk '$$1 >= 13 { print "cuda13" } $$1 == 12 { print "cuda12" }')

.PHONY: demo test lint bench kernels clean

demo: $(VENV)/.installed-demo
	$(BIN)/gradx demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m pytest bench --benchmark-only --benchmark-max-time=0.3

# Recorded CUDA kernels, compiled by NVIDIA's compiler for several generations of GPU, none of which need be here.
# To record them: .venv/bin/python bench/record_kernels.py build/kernels -m cuda
KERNELS ?= build/kernels
NVRTC := .venv-nvrtc
kernels: $(NVRTC)/.installed
	$(NVRTC)/bin/python bench/compile_kernels.py $(KERNELS) $(ARCH:%=--arch %)

clean:
	rm -rf $(VENV) $(NVRTC) .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks gradx_demo_loss.png

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing gradx[$*$(CUDA:%=,%)] into $(VENV), once; this can take some minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*$(CUDA:%=,%)]'
	@touch $@

# In an environment of its own: the emulated device of .ci/run wants none of NVIDIA's packages beside it.
$(NVRTC)/.installed: | $(BIN)/python
	$(BIN)/python -m venv $(NVRTC)
	$(NVRTC)/bin/python -m pip install --quiet --disable-pip-version-check \
		'nvidia-cuda-nvrtc==13.5.*' 'nvidia-cuda-runtime==13.5.*'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("gradx needs Python 3.11 or later; this is " + sys.version.split()[0] \
		+ ". Try: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
