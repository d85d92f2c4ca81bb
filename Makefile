# Every target is one line of what it runs; .ci/run calls these and nothing else.
SHELL := /bin/bash -o pipefail
# Programs, tests and tools are all compiled the same way, so that what they share
# is compiled once: from cold that is most of the time.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath)
# Programs say the VERSION that they are built as, and what git says where none is given.
VERSION ?=
GOFLAGS_BUILD = -ldflags='-s -w$(if $(VERSION), -X github.com/muster-dev/muster/internal/daemon.version=v$(VERSION:v%=%))'
GOTESTSUM := go tool -modfile=tools/go.mod gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg
AWSTESTS := TestAWS|Test[A-Za-z0-9]*Moto
AWSPACKAGES = $(sort $(patsubst %,./%,$(dir $(shell grep -rlE --include='*_test.go' '^func $(AWSTESTS)' internal))))
CROSSINGS := ./internal/reconcile/bykops/
COMMANDS := ^TestClusterReconcile
CLUSTERENV = MUSTER_BIN=$(CURDIR)/bin ETCD=$(CURDIR)/bin/etcd KUBE_APISERVER=$(CURDIR)/bin/kube-apiserver \
  KUBE_CONTROLLER_MANAGER=$(CURDIR)/bin/kube-controller-manager
LONGLAB := ^TestLab(Faults|RollsBack|WithBridges|EverySample)
# golangci-lint is what vets.
GOTEST := $(GOTESTSUM) -- -vet=off
NFPM := go tool -modfile=tools/nfpm/go.mod nfpm
# Where nothing runs beside anything else there is no race to detect. One whole
# migration is enough to find it, and commands only start what is raced where it is.
# Clouds' libraries are compiled without optimization, which is quicker.
RACING := ^\s*(defer )?go |\.Go\(|"sync(/atomic|test)?"|"testing/synctest"|"net/http/httptest"|net\.Listen
RACEPACKAGES = $(sort $(patsubst %,./%,$(dir $(shell grep -rlE --include='*.go' '$(RACING)' internal))))
RACESKIP := FromEveryStep$$|IsKilledAnywhere|^TestRandomFaults|^TestAStoreThatFails|^TestScripts$$
RACEFLAGS := $(foreach p,github.com/aws/... github.com/Azure/... k8s.io/...,-gcflags='$p=-N -l')
K8SVERSION = $(shell awk '$$1 == "k8s.io/kubernetes" {print $$2}' test/cluster/kubernetes/go.mod)
ARCH := $(shell go env GOARCH)
FUZZTIME ?= 20s
SOAKTIME ?= 30m
FUZZDIRS ?= internal
# Making an interesting input smaller takes up to a minute of no fuzzing unless told otherwise.
FUZZFLAGS := -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 200x
# Each package is compiled and linked once, and not for each of its fuzzers. What
# they found to be interesting is kept where go test keeps it.
FUZZBIN := $(or $(TMPDIR),/tmp)/muster-fuzz.test
FUZZCACHE = $(shell go env GOCACHE)/fuzz/$(shell go list -m)
# Where the end of the time meets a slow input, go test calls that a failure.
FUZZLOG := $(or $(TMPDIR),/tmp)/muster-fuzz.log

.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## muster, muster-peer and muster-agent into bin/
	go build $(GOFLAGS_BUILD) -o bin/ ./cmd/...

demo: build ## rehearse the example cluster from gossip to none, on this machine
	bin/muster rehearse -f examples/atlas.k8s.local.yaml --to none

test: build moto ## everything that proves it but the heavy tiers; what computes runs beside what waits, at a lower priority
	@$(MAKE) --no-print-directory -j2 test-lab test-computes

test-computes:
	@nice -n 10 $(MAKE) --no-print-directory test-unit
	@nice -n 10 $(MAKE) --no-print-directory test-mesh
	@nice -n 10 $(MAKE) --no-print-directory test-aws-looks

test-unit: ## packages, in random order
	$(GOTEST) -timeout 20m -shuffle=on -short ./...

test-race: ## those of packages in which anything runs beside anything else, with the race detector (which takes cgo)
	$(GOTESTSUM) --raw-command -- env CGO_ENABLED=1 go test -json -vet=off -race -timeout 20m -shuffle=on -short -skip '$(RACESKIP)' $(RACEFLAGS) $(RACEPACKAGES)

test-mesh: ## a leaf among sixty peers of the weave mesh, on real sockets
	$(GOTEST) -count=1 -timeout 5m -run '^TestALeafAmongSixtyPeers$$' ./internal/overlay/weave

test-kills: ## a migration that is killed at every single point, each in a run of its own; and back from the end of every step
	MUSTER_EVERY_POINT=1 $(GOTEST) -count=1 -timeout 20m -run 'ThatIsKilled|ThereAndBack' -p 2 ./internal/reconcile ./internal/reconcile/bykops

test-aws: test-aws-looks test-aws-crossings ## against an emulated AWS (python3 with moto), samples of real clusters among it

test-aws-looks: moto ## what only reads, and each change by itself
	MUSTER_AWS=1 $(GOTEST) -count=1 -timeout 20m -p 2 -run '$(AWSTESTS)' $(filter-out $(CROSSINGS),$(AWSPACKAGES))

test-aws-crossings: moto ## whole migrations with a stand-in kops, and what goes wrong in them
	MUSTER_AWS=1 $(GOTEST) -count=1 -timeout 30m -p 2 -run '$(AWSTESTS)' $(CROSSINGS)

moto:
	@python3 -c 'import moto.server, boto3' 2>/dev/null || pip install --quiet 'moto[server]==5.2.1' || \
	  echo 'make: moto is missing and pip cannot install it: the tests against AWS say that they skip'

test-lab: build moto ## whole clusters of real processes
	MUSTER_AWS=1 MUSTER_BIN=$(CURDIR)/bin $(GOTEST) -count=1 -timeout 12m -p 1 -run '^TestLab' -skip '$(LONGLAB)' ./test/lab

test-faults: build moto ## the same with faults on each overlay, on real clusters, and back from every step
	MUSTER_AWS=1 MUSTER_BIN=$(CURDIR)/bin $(GOTEST) -count=1 -timeout 25m -p 1 -run '$(LONGLAB)' ./test/lab

test-cluster: test-cluster-labs test-cluster-reconcile ## on real control planes, which are built the first time

test-cluster-labs: build kubernetes ## labs with kube-apiserver on each control-plane node, and etcd (network namespaces)
	$(CLUSTERENV) $(GOTEST) -count=1 -timeout 20m -p 1 -skip '$(COMMANDS)' ./test/cluster

test-cluster-reconcile: build kubernetes moto ## muster reconcile as a command: machines on an emulated AWS, a real API server
	MUSTER_AWS=1 $(CLUSTERENV) $(GOTEST) -count=1 -timeout 30m -p 1 -run '$(COMMANDS)' ./test/cluster

test-browser: chromium ## reports of migrations, opened in Debian's Chromium (apt-get installs it where it may)
	cd test/browser && go test -count=1 -timeout 5m ./...

chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && { apt-get update -q && apt-get install -q -y chromium; } >/dev/null; } || \
	  echo 'make: chromium is missing and apt-get cannot install it: the tests in a browser say that they skip'

kubernetes: bin/kube-apiserver bin/kube-controller-manager bin/etcd ## what `muster lab up --apiserver real` runs, and the controllers of tests, into bin/

bin/kube-%: test/cluster/kubernetes/go.mod
	cd $(<D) && go build -ldflags='-s -w -X k8s.io/component-base/version.gitVersion=$(K8SVERSION)' -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/$(@F)

bin/etcd: test/cluster/etcd/go.mod
	cd $(<D) && go build -ldflags='-s -w' -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3

test-failover: build ## what API servers that fail cost a worker's connections: failover ROW RECOVERY_MS FAILED_NEW ok|late
	@MUSTER_BIN=$(CURDIR)/bin go test -count=1 -timeout 15m -run '^TestFailover$$' -v ./test/failover | grep -E '^ *(failover|direct) |^(FAIL|panic|ok|---)|SKIPPED|failover_test'

test-soak: build ## random faults for SOAKTIME (default 30m): soak NAME VALUE UNIT; SOAKSEED repeats a run
	@MUSTER_BIN=$(CURDIR)/bin SOAKTIME=$(SOAKTIME) SOAKSEED=$(SOAKSEED) go test -count=1 -timeout 2h -run '^TestSoak$$' -v ./test/failover | \
	  grep -E '^ *soak |^(FAIL|panic|ok|---)|SKIPPED|soak_test|world_test'

cross: ## build for each other system and processor, which compiles every dependency three times more
	@for p in darwin/arm64 windows/amd64; do echo "build muster $$p"; \
	  GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null ./cmd/muster || exit 1; done
	@for p in muster-peer muster-agent; do echo "build $$p linux/arm64"; \
	  GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/$$p || exit 1; done

test-elsewhere: ## all of those without compiling what is not ours: that it is well typed there; and the agent built for arm64
	MUSTER_ELSEWHERE=1 $(GOTEST) -count=1 -run '^TestWhatIsBuiltForOtherSystems' ./test/arch
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/muster-agent

packages: build ## .deb and .rpm of each program for this processor into bin/packages/, as VERSION
	go run ./packaging/manual packaging/man
	@mkdir -p packaging/completion bin/packages
	@for shell in bash zsh fish; do bin/muster completion $$shell > packaging/completion/muster.$$shell || exit 1; done
	@for p in muster muster-agent muster-peer; do for format in deb rpm; do VERSION=$(or $(VERSION),0.0.0-dev) ARCH=$(ARCH) \
	  $(NFPM) package -f packaging/nfpm/$$p.yaml -p $$format -t bin/packages/ || exit 1; done; done

test-packages: ## builds the Debian packages and reads them
	$(GOTEST) -count=1 -timeout 10m -run '^TestDebianPackages$$' ./packaging

lint: ## gofmt and golangci-lint, which vets; and that the browser's module has what reports import
	@test -z "$$(gofmt -l cmd internal packaging test)" || { gofmt -l cmd internal packaging test; echo 'gofmt: run gofmt -w on these'; exit 1; }
	go tool -modfile=tools/go.mod golangci-lint run
	cd test/browser && go vet ./...

bench: build ## time to the last hosts block, CPU and memory per peer
	@MUSTER_BIN=$(CURDIR)/bin go test -count=1 -timeout 30m -run '^TestBench' -v ./test/bench | grep -E '^ *bench |^(FAIL|panic|ok|---)'

bench-balancer: build ## muster-agent's balancer against HAProxy in one run: bench NAME VALUE UNIT, ratio NAME VALUE
	@MUSTER_BIN=$(CURDIR)/bin go test -count=1 -timeout 15m -v ./test/bench/balancer | grep -E '^ *(bench|ratio) |^(FAIL|panic|ok|---)|SKIPPED'

fuzz-legacy: ## the decoders of kOps's overlays, ten minutes each unless FUZZTIME says otherwise
	@$(MAKE) --no-print-directory fuzz FUZZDIRS='internal/overlay/weave internal/overlay/legacy internal/overlay/kopsmemberlist' \
	  FUZZTIME=$(if $(filter command line environment,$(origin FUZZTIME)),$(FUZZTIME),10m)

bench-aws: ## calls, time and memory of describing and auditing 1,000 instances on an emulated AWS
	@MUSTER_AWS=1 go test -count=1 -timeout 20m -run '^TestBenchAWS' -v ./test/bench | grep -E '^ *bench |^(FAIL|panic|ok|---)'

fuzz: ## every fuzzer for FUZZTIME (default 20s)
	@for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' $(FUZZDIRS) | xargs -n1 dirname | sort -u); do \
	  go test -c -vet=off -fuzz . -o $(FUZZBIN) ./$$pkg || exit 1; \
	  for f in $$(grep -ho --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | awk '{print $$2}'); do \
	    echo "fuzz $$pkg $$f"; run="$(FUZZBIN) -test.run ^$$ -test.fuzz ^$$f$$ $(FUZZFLAGS) -test.fuzzcachedir $(FUZZCACHE)/$$pkg"; \
	    (cd $$pkg && $$run) 2>&1 | tee $(FUZZLOG) || \
	      { ! grep -q 'Failing input' $(FUZZLOG) && grep -q 'context deadline exceeded' $(FUZZLOG) && \
	        echo "fuzz $$f: ended in the middle of an input, once more" && (cd $$pkg && $$run); } || exit 1; done; done

clean: ## remove what build made
	rm -rf bin packaging/man packaging/completion

.PHONY: help build demo test test-computes test-unit test-race test-mesh test-kills test-aws test-aws-looks test-aws-crossings moto test-lab test-faults test-cluster test-cluster-labs test-cluster-reconcile test-browser chromium kubernetes test-failover test-soak cross test-elsewhere packages test-packages lint bench bench-aws bench-balancer fuzz fuzz-legacy clean
