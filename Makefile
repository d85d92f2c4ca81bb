# Every target is one line of what it runs; .ci/run calls these and nothing else.
SHELL := /bin/bash -o pipefail
GOFLAGS_BUILD := -trimpath -ldflags='-s -w'
GOTESTSUM := go tool -modfile=tools/go.mod gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg
FUZZTIME ?= 20s
FUZZDIRS ?= internal

.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## muster, muster-peer and muster-agent into bin/
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o bin/ ./cmd/...

demo: build ## rehearse the example cluster from gossip to none, on this machine
	bin/muster rehearse -f examples/atlas.k8s.local.yaml --to none

test: test-unit test-mesh test-aws test-lab ## everything that proves it

test-unit: ## packages, with the race detector and in random order
	$(GOTESTSUM) -- -race -shuffle=on -short ./...

test-mesh: ## a leaf among sixty peers of the weave mesh, on real sockets
	go test -count=1 -timeout 5m -run '^TestALeafAmongSixtyPeers$$' ./internal/overlay/weave

test-aws: moto ## against an emulated AWS (python3 with moto), samples of real clusters among it
	$(GOTESTSUM) -- -count=1 -timeout 20m -p 1 -run '^TestAWS|Moto' ./...

moto:
	@python3 -c 'import moto.server, boto3' 2>/dev/null || pip install --quiet 'moto[server]==5.2.1' || \
	  echo 'make: moto is missing and pip cannot install it: the tests against AWS say that they skip'

test-lab: build ## whole clusters of real processes, with faults
	MUSTER_BIN=$(CURDIR)/bin $(GOTESTSUM) -- -count=1 -timeout 12m -p 1 -run '^TestLab' ./test/...

cross: ## build for every platform that is supported
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
	  echo "build muster $$os/$$arch"; GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 go build -o /dev/null ./cmd/muster || exit 1; done; done
	@for arch in amd64 arm64; do for p in muster-peer muster-agent; do \
	  echo "build $$p linux/$$arch"; GOOS=linux GOARCH=$$arch CGO_ENABLED=0 go build -o /dev/null ./cmd/$$p || exit 1; done; done

lint: ## gofmt, vet and golangci-lint
	@test -z "$$(gofmt -l cmd internal test)" || { gofmt -l cmd internal test; echo 'gofmt: run gofmt -w on these'; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod golangci-lint run

bench: build ## time to the last hosts block, CPU and memory per peer
	@MUSTER_BIN=$(CURDIR)/bin go test -count=1 -timeout 30m -run '^TestBench' -v ./test/bench | grep -E '^ *bench |^(FAIL|panic|ok|---)'

fuzz-legacy: ## the decoders of kOps's overlays, ten minutes each unless FUZZTIME says otherwise
	@$(MAKE) --no-print-directory fuzz FUZZDIRS='internal/overlay/weave internal/overlay/legacy internal/overlay/kopsmemberlist' \
	  FUZZTIME=$(if $(filter command line environment,$(origin FUZZTIME)),$(FUZZTIME),10m)

bench-aws: ## calls, time and memory of describing 1,000 instances on an emulated AWS
	@go test -count=1 -timeout 20m -run '^TestBenchAWS' -v ./test/bench | grep -E '^ *bench |^(FAIL|panic|ok|---)'

fuzz: ## every fuzzer for FUZZTIME (default 20s)
	@for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' $(FUZZDIRS) | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | awk '{print $$2}'); do \
	    echo "fuzz $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$pkg || exit 1; done; done

clean: ## remove what build made
	rm -rf bin

.PHONY: help build demo test test-unit test-mesh test-aws moto test-lab cross lint bench bench-aws fuzz fuzz-legacy clean
