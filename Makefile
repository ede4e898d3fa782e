SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))
# The go command passes over folders called testdata; those with Go code of this module are named here.
TESTDATA := $(shell find testdata -type d -exec test -e '{}/go.mod' ';' -prune -o -name '*.go' -printf './%h\n' | sort -u)
PACKAGES := ./... $(TESTDATA)

.PHONY: help build demo test proof lint fmt fuzz bench generate packages clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/causeway
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/causeway ./cmd/causeway

demo: build ## run the gateway in front of a small order service and show what it does
	@bin/causeway demo

# Tests that wait do so beside others (-parallel); a program with the race detector would sleep for a second at its end.
test: ## run all tests; RACE=1 adds the race detector, POISON=1 overwrites released buffers, RUN=REGEXP chooses, CAUSEWAY_REAL=1 makes a missing program a failure
	@go build -o bin/testsum ./testdata/testsum
	@GORACE='atexit_sleep_ms=50' bin/testsum -count=1 -shuffle=on -timeout 20m -parallel 4 $(if $(RUN),-run '$(RUN)') $(if $(filter-out 0,$(RACE)),-race) \
		$(if $(filter-out 0,$(POISON)),-tags causeway_poison) -- $(PACKAGES)

proof: ## run the long proofs in full; each prints its figure
	CAUSEWAY_PROOF=1 go test -count=1 -v -timeout 60m -run '^TestProof' $(PACKAGES)

lint: bin/golangci-lint ## run the linters
	bin/golangci-lint run $(PACKAGES)

fmt: bin/golangci-lint ## format the code
	bin/golangci-lint fmt

bin/golangci-lint: .ci/lint.mod .ci/lint.sum
	go build -modfile=.ci/lint.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/h2spec: .ci/h2spec.mod .ci/h2spec.sum # what rpcadapters/wire/http2 is tested with
	go build -modfile=.ci/h2spec.mod -o $@ github.com/summerwind/h2spec/cmd/h2spec

fuzz: ## run every fuzz target for FUZZTIME (30s, or a number of executions such as 10000x)
	@.ci/fuzz '$(or $(FUZZTIME),30s)' $(PACKAGES)

bench: ## compare with the peers and print what each bar demands, see testdata/bench; OUT=FILE keeps the table as JSON
	cd testdata/bench && go run . -bars $(if $(OUT),-out '$(abspath $(OUT))')

generate: ## compile the .proto files to Go
	go run ./protos/generate

packages: # for .ci/run
	@printf '%s\n' $(PACKAGES)

clean: ## remove what was built
	rm -rf bin dist
