# make        bin/runbook with the agents for linux/amd64 and linux/arm64 in it
# make test   all tests; as root with openssh-server and iproute2 also those on real nodes
# make bench  a table of ratios against plain ssh, on namespaced nodes (root)
# make lint   vet, staticcheck, gofmt

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
AGENTS  := cmd/runbook/agents
export CGO_ENABLED := 0

.PHONY: build agents test bench lint

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

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
