# `make demo` and `make test` are the two commands of the README. Each sets up what it needs, works alone,
# and can be repeated or interrupted: finished stages are skipped, an unfinished one starts again.

PYTHON ?= python3
CKPT ?= checkpoints/blockffn-22m-docs
PROMPT ?= To install the package, run the following command:
MAX_TOKENS ?= 160
SAMPLING ?= --temperature 0.7 --top-p 0.9 --repetition-penalty 1.05 --seed 1
export PROMPT

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
READY := $(VENV)/.ready
LIB := build/libblockffn_executorch.so
PTE := out/$(notdir $(patsubst %/,%,$(CKPT)))/model-int8.pte
EXPORT_SOURCES := $(wildcard export/*.py) training/checkpoint.py training/config.py

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup build demo test apk bench pins clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## .venv with the pinned packages of constraints.txt

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo 'Python 3.10 or newer is needed: apt install python3, or name one with `make PYTHON=...`' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo 'The venv module of Python is missing: apt install python3-venv' >&2; exit 1; }
	@[ ! -e $(VENV) ] || [ "$$($(PY) -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" ] || rm -rf $(VENV)
	@echo 'Setting up $(VENV) (5 GB of packages, most of them CUDA for training; a minute, and the downloads) ...'
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\]$$/p' constraints.txt > $(VENV)/uv.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $(VENV)/uv.txt
	@$(UV) pip sync --compile-bytecode --python $(PY) --require-hashes --build-constraints constraints.txt constraints.txt
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

build: $(READY)  ## the C++ library, build/libblockffn_executorch.so
	@command -v $${CXX:-c++} >/dev/null || { echo 'A C++17 compiler is missing: apt install g++' >&2; exit 1; }
	@[ build/build.ninja -nt $(READY) ] || $(VENV)/bin/cmake --fresh -S runtime_delegates -B build -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_MAKE_PROGRAM="$(CURDIR)/$(VENV)/bin/ninja" -DCMAKE_PREFIX_PATH="$$($(PY) -c \
	  'import executorch; print(list(executorch.__path__)[0])')/share/cmake"
	@$(VENV)/bin/cmake --build build

$(CKPT)/config.json:
	@echo 'There is no checkpoint in $(CKPT): name a directory with `make demo CKPT=...`' >&2; exit 1

$(PTE): $(CKPT)/config.json $(wildcard $(CKPT)/*.safetensors $(CKPT)/*.bin $(CKPT)/tokenizer*) $(EXPORT_SOURCES) | build
	$(PY) export/to_executorch.py $(CKPT) -o $@ --quant int8

demo: build $(PTE)  ## export the shipped checkpoint and generate text from it through our backend
	@$(PY) -m runtime_delegates.generate $(PTE) --echo --prompt "$$PROMPT" --max-tokens $(MAX_TOKENS) $(SAMPLING)

test: build  ## all tests
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(PY) -m pytest -n 2 --dist loadfile $(ARGS)

# A draft head of the checkpoint, where there is one.
DRAFT := $(if $(wildcard $(CKPT)/draft/config.json),$(dir $(PTE))draft-int8.pte)

$(dir $(PTE))draft-int8.pte: $(wildcard $(CKPT)/draft/*) $(PTE)
	$(PY) export/to_executorch.py $(CKPT)/draft --target $(CKPT) -o $@ --quant int8

apk: $(READY) $(PTE) $(DRAFT)  ## android_demo/dist/blockffn-demo.apk, see android_demo/README.md
	@$(PY) android_demo/tools/apk.py --program $(PTE) $(addprefix --draft ,$(DRAFT)) --checkpoint $(CKPT) $(ARGS)

bench: build  ## time the sparse FFN beside other runtimes, see benchmarks/README.md; make bench ARGS=--quick
	@$(PY) -m benchmarks.ffn $(ARGS)

# Newer versions: make pins UPGRADE=--upgrade
pins: $(READY)  ## resolve pyproject.toml into constraints.txt again
	@cp constraints.txt constraints.txt.part
	@$(UV) pip compile --quiet $(UPGRADE) --universal --python-version 3.10 --extra dev --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml -o constraints.txt.part
	@{ sed -n '/^#/!q; p' constraints.txt; grep -v '^#' constraints.txt.part; } > constraints.txt.new.part
	@mv constraints.txt.new.part constraints.txt; rm -f constraints.txt.part

clean:  ## remove what `build` and `demo` made (not .venv)
	rm -rf build $(dir $(PTE))
