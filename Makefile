# `make help` lists the targets; `make test` is what CI runs, byte for byte.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What you may set.
COVER_MIN ?= 90
CYCLES ?= 1000
STEPS ?= 1000000
SHOTS ?= 1000000
SEED ?= 1
YEARS ?= 20
ZONES ?= 100
FLAGS ?=

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
# vet has a step of its own. SQLite is C in the form of Go, one connection of it used by one goroutine: to watch each of
# its accesses takes most of the time of the tests that use it. All that calls it, its driver too, is watched.
WATCHED = -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false
TEST_FLAGS = $(WATCHED) -shuffle=on -timeout=20m -p=2 -vet=off
# A counter in every statement makes the race detector three times slower, so coverage is counted without it, and without
# the tests of servers and browsers in processes of their own, of which it counts nothing.
COVER_FLAGS = -short -shuffle=on -timeout=20m -p=2 -vet=off
# The longest comes first, so that it is not the last, and alone. What measures is tested by itself: it takes all
# processors, and others would fail beside it.
TESTED = $(shell go list ./cmd/... ./persistence/... ./... | grep -v '/bench$$')
# There is nothing in Go to cover in the clients of other languages.
COVERED = $(filter-out %/transport/sdk,$(TESTED))

STEP := .ci/step

# What is compiled for vet, the linters and the build is what `build` and the tests' servers are made of: compiled once.
PLAIN := CGO_ENABLED=0 GOFLAGS=-trimpath

.PHONY: help run cluster build test unit lint fmt sdk spec golden smoke crash malformed walk bench bench-peers cron-check vuln tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve from source on 127.0.0.1:8080
	go run ./cmd/troupe serve

cluster: ## three nodes, PostgreSQL, Redis and Nginx on this machine, until Ctrl-C; PORT=8080, DIR= keeps the data
	@.ci/cluster

build: ## bin/troupe
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/troupe ./cmd/troupe

test: tools ## the gate: all that CI runs; COVER_MIN=90 is the coverage it asks for
	@$(STEP) format $(GOLANGCI) fmt --diff
	@$(STEP) vet env $(PLAIN) go vet ./...
	@$(STEP) lint env $(PLAIN) $(GOLANGCI) run ./...
	@$(STEP) build env $(PLAIN) go build ./...
	@$(STEP) modules go mod tidy -diff
	@$(STEP) checksums go mod verify
	@$(STEP) spec .ci/spec
	@rm -f .cache/flaky
	@$(STEP) covered env $(PLAIN) $(GOTESTSUM) --format=pkgname-and-test-fails --hide-summary=skipped --junitfile=.cache/covered.xml -- \
	  $(COVER_FLAGS) -coverpkg=$(COVER_PACKAGES) -coverprofile=.cache/coverage.out $(COVERED) \
	  || $(STEP) again env $(PLAIN) .ci/again .cache/covered.xml $(COVER_FLAGS)
	@$(STEP) coverage .ci/coverage .cache/coverage.out $(COVER_MIN)
	@$(STEP) tests $(GOTESTSUM) --format=pkgname-and-test-fails --junitfile=.cache/tests.xml -- $(TEST_FLAGS) $(TESTED) \
	  || $(STEP) again .ci/again .cache/tests.xml $(TEST_FLAGS)
	@$(STEP) bench go test $(TEST_FLAGS) ./bench
	@$(STEP) cron $(MAKE) --no-print-directory cron-check YEARS=1 ZONES=8
	@$(STEP) smoke .ci/smoke
	@$(STEP) vuln .ci/vuln $(GOVULNCHECK)
	@.ci/tally .cache/tests.xml

unit: ## the tests alone, with the race detector
	go test $(TEST_FLAGS) ./...

lint: $(GOLANGCI) ## the linters alone
	$(GOLANGCI) run ./...

fmt: $(GOLANGCI) ## write the format that the gate asks for
	$(GOLANGCI) fmt

sdk: ## write the TypeScript client's types anew from the server's OpenAPI document
	go test ./transport/sdk -run TestTypeScriptTypesAreOfTheAPI -count=1 -args -update

spec: ## lint the descriptions of the API, OpenAPI and AsyncAPI; after a change of shapes: make golden
	.ci/spec

golden: ## write the golden files of those descriptions anew, from the code
	go test ./transport/api -run TestDocumentIsGolden -count=1 -args -update
	go test ./transport/ws -run TestDocumentOfTheSocketsIsGolden -count=1 -args -update

smoke: ## build the binary, kill it in the middle of its work, look at what is left
	.ci/smoke

crash: ## kill -9 in a loop at random points; CYCLES=1000 is how often
	go test ./cmd/troupe -run TestKill -count=1 -timeout=0 -v -args -cycles=$(CYCLES)

malformed: ## a million malformed requests and as many frames; SHOTS=1000000
	go test ./transport/api -run TestMalformed -count=1 -timeout=0 -v -args -malformed=$(SHOTS)
	go test ./transport/ws -run TestMalformed -count=1 -timeout=0 -v -args -malformed=$(SHOTS)

walk: ## the scheduler's properties over random steps; STEPS=1000000, SEED=1
	go test ./runtime/schedule -count=1 -timeout=0 -v -args -steps=$(STEPS) -seed=$(SEED)

bench: ## the figures of one node, in a short form, measured here
	go run ./bench all

bench-peers: ## Troupe beside River, Asynq, Faktory and Centrifuge on this machine, 10 minutes; FLAGS=--short
	@.ci/services postgresql redis-server
	cd bench/peers && go run . $(FLAGS)

cron-check: ## next times of schedules against two other engines; YEARS=20 ZONES=100, an hour of one processor
	cd bench/croncheck && go run . -years $(YEARS) -zones $(ZONES)

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
