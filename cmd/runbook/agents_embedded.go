//go:build embedagent

package main

import (
	_ "embed"
	"strings"

	"runbook/engine"
	"runbook/node/ssh"
)

// The agents that make has built just before, and the hash of each as it is
// when unpacked: see the Makefile.
var (
	//go:embed agents/linux-amd64.gz
	amd64 []byte
	//go:embed agents/linux-amd64.sha256
	amd64Hash string
	//go:embed agents/linux-arm64.gz
	arm64 []byte
	//go:embed agents/linux-arm64.sha256
	arm64Hash string
)

func agentFor(platform string) (ssh.Agent, error) {
	switch platform {
	case "linux/amd64":
		return ssh.Agent{Gzip: func() ([]byte, error) { return amd64, nil }, SHA256: strings.TrimSpace(amd64Hash)}, nil
	case "linux/arm64":
		return ssh.Agent{Gzip: func() ([]byte, error) { return arm64, nil }, SHA256: strings.TrimSpace(arm64Hash)}, nil
	}
	return ssh.Agent{}, engine.Unreachable.Errorf("this build carries no agent for %s", platform)
}
