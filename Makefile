# make        bin/runbook with the agents for linux/amd64 and linux/arm64 in it
# make test   all tests; as root with openssh-server and iproute2 also those on real nodes
# make bench  a table of ratios against plain ssh, on namespaced nodes (root)
# make random 100,000 random operations, predicted and made in a namespace (root; RANDOM_OPS, RANDOM_UNDO=off)
# make picture  docs/screen.svg, from a real run in a terminal (root, tmux)
# make lint   vet, staticcheck, gofmt

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
AGENTS  := cmd/runbook/agents
export CGO_ENABLED := 0

.PHONY: build agents test bench random lint picture

build: agents
	go build -trimpath -tags embedagent -ldflags "-s -w -X main.version=$(VERSION)" -o bin/runbook ./cmd/runbook

agents:
	@mkdir -p $(AGENTS)
	for arch in amd64 arm64; do \
	  GOOS=linux GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags "-s -w" -o bin/runbook-agent-$$arch ./cmd/runbook-agent && \
	  gzip -9nc bin/runbook-agent-$$arch > $(AGENTS)/linux-$$arch.gz && \
	  sha256sum < bin/runbook-agent-$$arch | cut -d' ' -f1 > $(AGENTS)/linux-$$arch.sha256 || exit 1; \
	done

test:
	go test ./...

bench: build
	go run ./bench bin/runbook

random:
	RUNBOOK_REQUIRE_INTEGRATION=1 RUNBOOK_RANDOM_OPS=$(or $(RANDOM_OPS),100000) RUNBOOK_RANDOM_UNDO=$(RANDOM_UNDO) \
	  go test -count=1 -timeout 3h -run 'TestRandomAll$$' -v ./node/nodetest

picture: build
	go run ./internal/picture bin/runbook > docs/screen.svg

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
