# Needs Python 3.11 to 3.13, make and a network. `make demo` and `make test` set up what they need themselves, in .venv.

PYTHON ?= python3
# TORCH=cpu takes PyTorch's CPU build, without 5 GB of CUDA libraries.
TORCH ?= default

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
# What the product needs; with the tests' tools, the linters and the peers of the benchmarks.
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev
DEMO := runs/demo

.PHONY: demo test test-rest test-all test-cluster test-shaken gpu gpu-cluster verify-zoo check style setup setup-dev lock
.DELETE_ON_ERROR:

demo: $(DEMO)/export/benchmark.json
	@$(PY) -m tune.report demo
	@$(PY) -m fmnist.summary demo

# What a user needs: every unit test, and one of each chain in real processes. Chromium: for pages, looked at as a reader does.
test: $(READY_DEV)
	tests/install.sh chromium
	$(PY) -m pytest -m 'not full and not bringup'

# What a contributor needs besides: every fault, the slow chains, a cluster brought up over SSH.
test-all: test test-rest test-cluster

test-rest: $(READY_DEV)
	tests/install.sh chromium
	$(PY) -m pytest -m 'full and not bringup'

# Real machines, as far as one machine can be several. -s: it takes minutes, and says where it is; -rs: or why it is left out.
test-cluster: $(READY_DEV)
	tests/install.sh iproute2 openssh-client openssh-server procps rsync util-linux
	$(PY) -m pytest -m bringup -s -rs

# The tests that start processes, many times over and at three speeds; docs/results/tests.md. RUNS=1 SPEEDS=fast for a quick look.
test-shaken: $(READY_DEV)
	$(PY) -m tests.shaken $(if $(RUNS),--runs $(RUNS)) $(if $(SPEEDS),--speeds $(SPEEDS))

# Where there are GPUs: what a machine without them cannot show; docs/results/gpu.md.
gpu-cluster: $(READY_DEV)
	$(PY) -m benchmarks.gpu

# Speed and accuracy where there is a GPU, in parts that add up in docs/results: make gpu PART=time-to-94. Each part resumes where it
# stopped, and stops after eight minutes. Needs no Ray; PY=python3 takes a Python that has what the parts import (speed:
# pytorch-lightning too). SEEDS=1 for a first look.
PART ?= time-to-94
GPU_PARTS := time-to-94 small best speed memory profile ablation distillation
GPU_time-to-94 := time_to_accuracy --recipes gpu-94 gpu-95 --seeds $(or $(SEEDS),5)
GPU_small := time_to_accuracy --recipes small --seeds $(or $(SEEDS),3)
GPU_best := time_to_accuracy --recipes best --seeds $(or $(SEEDS),5)
GPU_speed := train_speed
GPU_memory := memory
GPU_profile := step_profile --recipes gpu-94 small best
GPU_ablation := ablation --base small --techniques --seeds 1
GPU_distillation := ablation --base small --techniques "distilled from best" --seeds 1
gpu: $(if $(filter $(VENV)/%,$(PY)),$(READY_DEV))
	$(if $(filter $(GPU_PARTS),$(PART)),,$(error PART=$(PART): it must be one of $(GPU_PARTS)))
	timeout --foreground --signal INT 480 $(PY) -m benchmarks.$(GPU_$(PART)) || { [ $$? = 124 ] && \
		echo "eight minutes are over; what was measured is kept, and make gpu PART=$(PART) goes on"; }

# Every network, width and ensemble through export and verification: about an hour.
verify-zoo: $(READY_DEV)
	$(PY) -m benchmarks.zoo --verify-only

check: $(READY_DEV)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pyright

# How densely the code is written, by room, beside what we aim for. A table to look at, no gate.
style: $(READY_DEV)
	@$(PY) -m tests.style_report

setup: $(READY)

setup-dev: $(READY_DEV)

# One block of a lock per package: "name==version ; marker \" and its hashes, indented.
block = awk '/^[a-z]/ { keep = ($$0 ~ /$(1)/) } keep' requirements.lock
version = $(shell sed -n 's/^$(1)==\([^ ]*\).*/\1/p' requirements.lock)
# $(call install,LOCK): every package of a lock, whose list goes to a file; meanwhile a line says how far it is.
install = cluster/install.sh $(VENV) $(1) $(if $(filter cpu,$(TORCH)),torch==$(call version,torch) torchvision==$(call version,torchvision))

$(VENV)/uv.txt: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 to 3.13 is needed: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(call block,^uv==) > $@.new
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $@.new
	@mv $@.new $@

$(READY): requirements.lock $(VENV)/uv.txt
	@$(call install,requirements.lock)
	@touch $@

$(READY_DEV): requirements-dev.lock $(READY)
	@$(call install,requirements-dev.lock)
	@touch $@

$(DEMO)/best/model.safetensors: | $(READY)
	$(PY) -m tune.search --preset demo --name demo --resume

$(DEMO)/export/manifest.json: $(DEMO)/best/model.safetensors
	$(PY) -m export.to_onnx demo

$(DEMO)/export/verify.json: $(DEMO)/export/manifest.json
	$(PY) -m export.verify demo

$(DEMO)/export/benchmark.json: $(DEMO)/export/verify.json
	$(PY) -m export.benchmark demo --batches 1 256 --modes single-stream --min-seconds 1 --no-compiled

# Renew the locks: every package at its newest, with hashes, for every platform. No registry's name goes into them.
compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --constraints constraints.txt pyproject.toml
lock: $(READY)
	$(compile) --upgrade --group setup --extra mlflow --extra signing --output-file requirements.lock
	$(compile) --upgrade --group dev --group setup --all-extras --output-file requirements-dev.lock
