# Every target needs only Go, unless its comment says otherwise. `make` lists the targets.

GO ?= go

# Tools have their own modules, so users of this module don't inherit their dependencies.
BUF = $(GO) tool -modfile=tools/buf/go.mod buf
GOLANGCI_LINT = $(GO) tool -modfile=tools/lint/go.mod golangci-lint

# The plugin of buf has its own module for the same reason.
BUF_PLUGIN = cmd/buf-plugin-treaty

# So have the tests of the files in deploy.
DEPLOY_CHECKS = deploy/checks

# The race detector needs a C compiler.
CC_FOUND := $(shell command -v "$$($(GO) env CC | cut -d' ' -f1)" 2>/dev/null)
RACE := $(if $(CC_FOUND),-race)

# The contracts of the last release. Those in proto/treaty must stay compatible with them.
RELEASE_IMAGE = tools/buf/release.binpb

# Contracts that make no such promise.
UNRELEASED = --exclude-path proto/acme --exclude-path proto/bench

# What the notification service in TypeScript serves. It has no other descriptors.
NOTIFICATION = --path proto/acme/notification --path proto/acme/privacy --path proto/treaty/v1/participant_service.proto

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all
all: generate lint test ## Generate, lint and test.

.PHONY: generate
generate: ## Generate gen/ from proto/. The first run compiles buf, which takes minutes.
	$(BUF) generate
	$(BUF) build --as-file-descriptor-set --exclude-source-info $(NOTIFICATION) -o gen/acme/notification/contracts.binpb

.PHONY: lint
lint: lint-proto lint-go lint-sagas lint-systems ## Check the contracts, the Go code, the sagas and go.mod.

.PHONY: lint-proto
lint-proto: ## Check the rules and the style of the contracts, and their compatibility with the last release.
	$(BUF) lint
	$(BUF) breaking $(UNRELEASED) --against $(RELEASE_IMAGE)

.PHONY: release-image
release-image: ## Record the contracts as those of a release, which later ones must stay compatible with.
	$(BUF) build $(UNRELEASED) --exclude-source-info -o $(RELEASE_IMAGE)

.PHONY: lint-go
lint-go: ## Check the Go code and go.mod.
	@unformatted="$$(git ls-files -co --exclude-standard -- '*.go' | \
		while read -r file; do if [ -f "$$file" ]; then gofmt -l "$$file"; fi; done)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted; run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags proof ./...
	$(GO) vet -C $(BUF_PLUGIN) ./...
	$(GO) vet -C $(DEPLOY_CHECKS) ./...
	$(GOLANGCI_LINT) run ./...
	$(GO) mod tidy -diff

.PHONY: lint-sagas
lint-sagas: ## Find mistakes in the code of the sagas: docs/saga-language.md lists them.
	$(GO) build -o bin/treatyvet ./cmd/treatyvet
	$(GO) vet -vettool=bin/treatyvet ./services/... ./bench/...

.PHONY: lint-systems
lint-systems: ## Check that the CLI compiles for macOS and Windows. The first run takes two minutes.
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./cmd/treaty/...
	GOOS=windows CGO_ENABLED=0 $(GO) vet ./cmd/treaty/...

# Several tests use what is written in TypeScript, and two must not install or build it at the same time.
NPM := $(shell command -v npm 2>/dev/null)

.PHONY: typescript
typescript: $(if $(NPM),node_modules/.package-lock.json) ## Build the packages in TypeScript. It needs npm.
	$(if $(NPM),@npm run build --silent --workspaces,@echo "no npm found: what is written in TypeScript isn't built")

.PHONY: package
package: typescript ## Write @treatyhq/participant to the folder TO=bin, as npm would download it.
	@mkdir -p $(TO)
	@cd participant/ts && npm pack --silent --ignore-scripts --pack-destination $(abspath $(TO))

TO = bin

node_modules/.package-lock.json: package-lock.json
	npm ci --silent --no-fund --no-audit

# These begin first, so that none of them runs alone at the end.
SLOWEST = ./proof ./orchestrator/internal/journal/sqlite

# PostgreSQL itself is needed by tests only. The targets that need it bring it.
.PHONY: postgres
postgres: ## Find the versions of PostgreSQL that the tests need, or get them: from npm, or as root from Debian.
	$(GO) run ./internal/postgres/getpostgres 15 18

.PHONY: test
test: typescript postgres ## Run all tests except the proof, with the race detector if a C compiler is installed.
	$(if $(RACE),,@echo "no C compiler found: running without the race detector")
	$(GO) test $(RACE) -timeout 30m $(SLOWEST) ./...
	$(GO) test -C $(BUF_PLUGIN) ./...
	$(GO) test -C $(DEPLOY_CHECKS) -short -count=1 ./...
	$(if $(RACE),$(GO) test -run '^TestExplore' ./services/sagas)

.PHONY: release
release: ## Build the programs of a release into bin/release. TARGETS=linux/amd64 builds for fewer systems.
	GO='$(GO)' TARGETS='$(TARGETS)' tools/release.sh

COUNT = 20
PKGS = ./...

.PHONY: stress
stress: ## Run the tests COUNT=20 times on busy cores, to find flaky ones. PKGS=./participant/... runs fewer.
	GO='$(GO)' RACE=$(RACE) COUNT=$(COUNT) tools/stress.sh $(PKGS)

.PHONY: proof
proof: typescript bin/jaeger bin/grpcurl bin/spire ## Kill processes under load and audit the result, with a real Jaeger.
	$(GO) test -tags proof -count=1 -timeout 45m -v ./proof/... ./internal/jaegertest/... ./internal/release/...
	$(GO) test -C $(DEPLOY_CHECKS) -count=1 -v ./...

.PHONY: bench
bench: ## Compare sagas with the same calls made directly. Pass flags in ARGS, e.g. ARGS=--json.
	$(GO) run ./bench $(ARGS)

PAIRS = 10
THRESHOLD = 3

.PHONY: bench-compare
bench-compare: ## Compare a commit with the working tree: BASE=main, and PAIRS=10, THRESHOLD=3 (%), ARGS, BASE_ARGS.
	$(GO) run ./bench compare --base "$(BASE)" --pairs $(PAIRS) --threshold $(THRESHOLD) \
		--args "$(ARGS)" --base-args "$(BASE_ARGS)"

.PHONY: jaeger
jaeger: bin/jaeger ## Run Jaeger on loopback until interrupted. It serves the API only, no web pages: see docs/adr/008.
	@echo "Spans go to   OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 (gRPC) or :4318 (HTTP)"
	@echo "Traces are at http://127.0.0.1:16686/api/traces/{trace id}"
	@OTEL_TRACES_SAMPLER=always_off bin/jaeger --log-level warn --memory.max-traces 100000 \
		--collector.otlp.grpc.host-port 127.0.0.1:4317 --collector.otlp.http.host-port 127.0.0.1:4318 \
		--query.http-server.host-port 127.0.0.1:16686 --query.grpc-server.host-port 127.0.0.1:16685 \
		--collector.grpc-server.host-port 127.0.0.1:14250 --collector.http-server.host-port 127.0.0.1:14268 \
		--admin.http.host-port 127.0.0.1:14269

# The first run compiles Jaeger, which takes minutes.
bin/jaeger: tools/jaeger/go.mod tools/jaeger/go.sum
	$(GO) build -C tools/jaeger -o ../../$@ github.com/jaegertracing/jaeger/cmd/all-in-one

bin/grpcurl: tools/grpcurl/go.mod tools/grpcurl/go.sum
	$(GO) build -C tools/grpcurl -o ../../$@ github.com/fullstorydev/grpcurl/cmd/grpcurl

bin/spire: tools/spire/go.mod tools/spire/go.sum $(wildcard tools/spire/svid/*.go)
	mkdir -p $@
	$(GO) build -C tools/spire -o ../../$@/ ./svid \
		github.com/spiffe/spire/cmd/spire-server github.com/spiffe/spire/cmd/spire-agent
	touch $@

# It reads the database of known vulnerabilities, which needs a network.
.PHONY: vulnerabilities
vulnerabilities: ## Report the known vulnerabilities that the code reaches.
	$(GO) tool -modfile=tools/govulncheck/go.mod govulncheck -test ./...

.PHONY: clean
clean: ## Remove built files.
	rm -rf bin
