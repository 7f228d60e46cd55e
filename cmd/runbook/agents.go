package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/node/ssh"
)

// platforms are those that nodes may have.
var platforms = []string{"linux/amd64", "linux/arm64"}

// carried returns the agent for a platform: the one that this binary holds, or
// in a development build the binary itself.
func carried(platform string) (ssh.Agent, error) {
	if !slices.Contains(platforms, platform) {
		return ssh.Agent{}, engine.Unreachable.Errorf("the node is %s: there are agents for linux/amd64 and linux/arm64", platform)
	}
	return agentFor(platform)
}

// agents lists the agents that this binary holds, a line each.
func agents() []string {
	var out []string
	for _, p := range platforms {
		a, err := agentFor(p)
		if err != nil {
			continue
		}
		if compressed, err := a.Gzip(); err == nil {
			out = append(out, fmt.Sprintf("agent %s %s, %d KB compressed", p, a.SHA256[:12], len(compressed)>>10))
		}
	}
	return out
}

// isAgent reports whether this process is a development build that was sent to
// a node as its agent: it lies there under the name of one.
func isAgent() bool { return strings.HasPrefix(filepath.Base(os.Args[0]), "agent-") }
