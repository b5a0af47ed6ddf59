# SPDX-License-Identifier: Apache-2.0
#
# Two tiers of tests: `make test` takes minutes and is what CI runs, `make proof`
# takes hours and leaves a record in docs/measurements/. `make help` explains all.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# sudo's secure_path lacks the place where Go's own archive unpacks itself.
GO ?= $(or $(shell command -v go 2>/dev/null),$(firstword $(wildcard /usr/local/go/bin/go /usr/lib/go-1.26/bin/go /usr/lib/go/bin/go)))
export PATH := $(if $(GO),$(patsubst %/,%,$(dir $(GO))):)$(PATH)
# Go keeps its caches below HOME, which a CI runner or a unit may not set.
export HOME := $(or $(HOME),/root)
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# Under sudo, and for CI's checkouts, the tree belongs to somebody else than git's
# user: without this git says nothing about it, neither to go nor to us.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

# The committed BPF objects come from this compiler and no other.
CLANG := clang-19
LLVM_STRIP := llvm-strip-19

# The host's conntrack limits are shared by all packages under test.
TESTFLAGS ?= -count=1 -p 1 -timeout 25m
FUZZTIME ?= 10s

.PHONY: help deps build generate demo test proof race fuzz bench lint clean need-go need-root

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps: need-root ## install what tests need, by apt, with no daemon started: lists it first (root)
	@hack/deps.sh

build: need-go ## build bin/tandem and bin/tandem-lab: static, with the commit stamped in; needs nothing but Go
	CGO_ENABLED=0 $(GO) build -buildvcs=auto -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

generate: need-go ## compile bpf/*.bpf.c again and write the Go that embeds it; needs clang-19
	@$(CLANG) --version | grep -q 'version 19\.' || { echo "generate: $(CLANG) 19 is not installed: run 'sudo make deps'" >&2; exit 1; }
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) $(GO) generate ./...

demo: need-root build ## two routers, live connections, one loses power: does any break? needs nothing but Go (root)
	@bin/tandem-lab drill crash

test: need-go need-root ## every test, on the real kernel and in a VM with Linux 6.1, in some 20 minutes (root, after deps)
	CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test $(TESTFLAGS) ./...

proof: need-go need-root build ## hours: tests many times, long fuzzing, all benchmarks, drills; writes docs/measurements/ (root, after deps)
	@hack/proof.sh

race: need-go need-root ## tests under the race detector, the model's walk shorter, without those that only start other processes (root, after deps)
	CGO_ENABLED=1 $(GO) test -race -short $(TESTFLAGS) $$($(GO) list ./... | grep -vE '/(test/(vm|e2e|interop)|internal/(drill|benchlab)|cmd/tandem-lab)(/|$$)')

fuzz: need-go need-root ## every fuzz target for FUZZTIME, default 10s (root, as the packages' other tests)
	@FUZZTIME=$(FUZZTIME) hack/fuzz.sh

bench: need-go need-root ## every benchmark once; BENCHTIME=2s for figures (root)
	CGO_ENABLED=0 $(GO) test $(TESTFLAGS) -run '^$$' -bench . -benchmem -benchtime $(or $(BENCHTIME),1x) ./...

lint: need-go ## gofmt, go vet, staticcheck (pinned in go.mod), go mod tidy: each without a finding
	@out=$$(git ls-files -z '*.go' | xargs -0 -r gofmt -l); [ -z "$$out" ] || { echo "lint: not gofmt'ed:"; echo "$$out"; exit 1; } >&2
	$(GO) vet ./...
	$(GO) vet -tags vm,proof,mutant ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags vm,proof,mutant ./...
	$(GO) mod tidy -diff

clean: ## remove what build made
	rm -rf bin dist

need-go:
	@[ -n "$(GO)" ] || { echo "make: Go 1.26 was not found: see https://go.dev/dl/, or say make GO=/path/to/go" >&2; exit 1; }

need-root:
	@[ "$$(id -u)" = 0 ] || { echo "make: '$(MAKECMDGOALS)' makes network namespaces and loads BPF, so it needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }
