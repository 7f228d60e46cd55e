//go:build embedagent

package main

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"strings"
	"sync"

	"runbook/engine"
	"runbook/node/ssh"
)

// The agents that make has built just before: see the Makefile.
//
//go:embed agents/*.gz
var embedded embed.FS

var unpacked sync.Map // platform to ssh.Agent: the hash of each is taken once

func agentFor(platform string) (ssh.Agent, error) {
	if a, ok := unpacked.Load(platform); ok {
		return a.(ssh.Agent), nil
	}
	gz, err := embedded.ReadFile("agents/" + strings.ReplaceAll(platform, "/", "-") + ".gz")
	if err != nil {
		return ssh.Agent{}, engine.Internal.Errorf("this build carries no agent for %s", platform)
	}
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return ssh.Agent{}, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return ssh.Agent{}, err
	}
	a := ssh.Agent{Gzip: gz, SHA256: hash(b)}
	unpacked.Store(platform, a)
	return a, nil
}
