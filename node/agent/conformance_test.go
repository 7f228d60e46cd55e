//go:build linux

package agent_test

import (
	"context"
	"net"
	"testing"

	"runbook/engine"
	"runbook/node/agent"
	"runbook/node/linux"
	"runbook/node/nodetest"
)

func TestConformance(t *testing.T) {
	nodetest.Run(t, func(t *testing.T, s nodetest.Start) engine.Node {
		n, err := linux.OpenAt("/run/netns/" + s.Namespace(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		near, far := net.Pipe()
		go func() {
			agent.Serve(context.Background(), far, far, n)
			far.Close()
		}()
		return agent.NewClient(near, agent.Peer{Name: s.Name, Addr: "here"})
	})
}
