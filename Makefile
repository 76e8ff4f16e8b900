# The one door: everything that a developer or CI does is a target here. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# rustup's cargo goes before a distribution's, which is too old. Exported, so that the scripts in tools/ see the same.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# OFFLINE=1: nothing reaches for the network; `make fetch` has brought everything before.
# CI=true: the committed Cargo.lock is the truth, and a stale one is an error.
ifneq ($(filter-out 0,$(OFFLINE)),)
export OFFLINE
export CARGO_NET_OFFLINE := true
export RUSTUP_AUTO_INSTALL := 0
LOCKED := --locked
endif
ifneq ($(CI),)
LOCKED := --locked
endif
export LOCKED

# bash counts seconds in a variable of this name; ours must not reach it.
unexport SECONDS

SEEDS ?= 2000
SECONDS ?= 60
TARGET ?= all

.PHONY: help setup build check test bench sim fuzz demo fetch clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'make sim SEED=7 replays one seed, SEEDS=N runs N of them (2000). make fuzz TARGET=name SECONDS=60 runs one fuzz'
	@echo 'target, all without TARGET. OFFLINE=1 before or behind any target keeps it off the network, after make fetch.'

setup: ## Install what a build needs and this machine lacks: a C compiler, curl, the Rust toolchain
	@bash tools/setup.sh

build: setup ## Build everything, tests included
	cargo build --workspace --all-targets $(LOCKED)

check: setup ## Formatting, lints, documentation and the architecture; warnings are errors
	@bash tools/check.sh

test: setup ## Everything that this machine can run; ends with what was skipped and why, and a count
	@SEEDS='$(SEEDS)' bash tools/test.sh

bench: setup ## Measure, beside the machine's own baselines; figures also go to target/bench.jsonl
	cargo run --release $(LOCKED) -p holdfast-bench

sim: setup ## Simulate from one seed (SEED=N) or many (SEEDS=N); a failing seed fails the same way each time
	cargo run --release $(LOCKED) -p holdfast-simulation -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

fuzz: setup ## Fuzz one decoder (TARGET=name SECONDS=n), or each in turn
	@bash tools/fuzz.sh '$(TARGET)' '$(SECONDS)'

demo: setup ## Show what works, step by step
	cargo run --release $(LOCKED) -p holdfast-demo

fetch: setup ## Bring everything that OFFLINE=1 needs later
	cargo fetch --locked

clean: ## Remove what was built
	cargo clean
