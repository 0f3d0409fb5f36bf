# `make help` lists the targets; `make test` is what CI runs, byte for byte.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What you may set.
COVER_MIN ?= 90
CYCLES ?= 1000

# Tools are built once from the module proxy, at these versions, under .cache/bin.
GOLANGCI_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
GOTESTSUM_VERSION := v1.13.0
TOOLS := .cache/bin
GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)
GOVULNCHECK := $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)
GOTESTSUM := $(TOOLS)/gotestsum-$(GOTESTSUM_VERSION)

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Every statement of these counts as covered whichever package's test runs it.
# The harness measures, the conformance suite is itself a test, and pgtest only serves them: none counts.
COVER_PACKAGES = $(shell go list ./... | grep -v -e /bench -e /storetest -e /pgtest -e /redistest | paste -sd, -)
TEST_FLAGS = -race -shuffle=on -timeout=20m

STEP := .ci/step

.PHONY: help run cluster build test unit lint fmt smoke crash bench vuln tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve from source on 127.0.0.1:8080
	go run ./cmd/troupe serve

cluster: ## three nodes, PostgreSQL, Redis and Nginx on this machine, until Ctrl-C; PORT=8080, DIR= keeps the data
	@.ci/cluster

build: ## bin/troupe
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/troupe ./cmd/troupe

test: tools ## the gate: all that CI runs; COVER_MIN=90 is the coverage it asks for
	@$(STEP) format $(GOLANGCI) fmt --diff
	@$(STEP) vet go vet ./...
	@$(STEP) lint $(GOLANGCI) run ./...
	@$(STEP) build go build ./...
	@$(STEP) modules go mod tidy -diff
	@$(STEP) checksums go mod verify
	@$(STEP) tests $(GOTESTSUM) --format=pkgname-and-test-fails --junitfile=.cache/tests.xml -- \
	  $(TEST_FLAGS) -coverpkg=$(COVER_PACKAGES) -coverprofile=.cache/coverage.out ./...
	@$(STEP) coverage .ci/coverage .cache/coverage.out $(COVER_MIN)
	@$(STEP) smoke .ci/smoke
	@$(STEP) vuln .ci/vuln $(GOVULNCHECK)
	@.ci/tally .cache/tests.xml

unit: ## the tests alone, with the race detector
	go test $(TEST_FLAGS) ./...

lint: $(GOLANGCI) ## the linters alone
	$(GOLANGCI) run ./...

fmt: $(GOLANGCI) ## write the format that the gate asks for
	$(GOLANGCI) fmt

smoke: ## build the binary, kill it in the middle of its work, look at what is left
	.ci/smoke

crash: ## kill -9 in a loop at random points; CYCLES=1000 is how often
	go test ./cmd/troupe -run TestKill -count=1 -timeout=0 -v -args -cycles=$(CYCLES)

bench: ## the figures of the README, measured here
	go run ./bench ws

vuln: $(GOVULNCHECK) ## known vulnerabilities of what we build with
	.ci/vuln $(GOVULNCHECK)

tools: $(GOLANGCI) $(GOVULNCHECK) $(GOTESTSUM) ## what the gate runs, at pinned versions, and the servers that tests start
	@.ci/services

# $(1) package, $(2) version. go install names the file after the package; we add the version.
define install
@echo "building $(notdir $@): once, a minute or two"
@mkdir -p $(TOOLS)
@said=$$(GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN=$(abspath $(TOOLS)) \
  go install -trimpath -ldflags='-s -w' $(1)@$(2) 2>&1) || { echo "$$said" >&2; exit 1; }
@mv $(TOOLS)/$(notdir $(1)) $@
endef

$(GOLANGCI):
	$(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_VERSION))

$(GOVULNCHECK):
	$(call install,golang.org/x/vuln/cmd/govulncheck,$(GOVULNCHECK_VERSION))

$(GOTESTSUM):
	$(call install,gotest.tools/gotestsum,$(GOTESTSUM_VERSION))
