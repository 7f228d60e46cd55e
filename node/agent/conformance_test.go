//go:build linux

package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/node/agent"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/sim"
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

// counted counts the bytes in both directions.
type counted struct {
	io.ReadWriteCloser
	bytes atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// On a node with 100,000 routes, adding one more sends its footprint only.
func TestOnlyTheFootprintIsSent(t *testing.T) {
	ns := nodetest.Usual.Namespace(t)
	var batch strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&batch, "route add 100.%d.%d.%d/32 via 10.98.0.1 dev eth1\n", i>>16, i>>8&255, i&255)
	}
	ip := exec.Command("ip", "-n", ns, "-batch", "-")
	ip.Stdin = strings.NewReader(batch.String())
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n, err := linux.OpenAt("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	near, far := net.Pipe()
	go func() {
		agent.Serve(context.Background(), far, far, n)
		far.Close()
	}()
	wire := &counted{ReadWriteCloser: near}
	c := agent.NewClient(wire, agent.Peer{Name: ns, Addr: "here"})
	defer c.Close()

	args := json.RawMessage(`{"dst":"10.20.0.0/16","via":"10.98.0.1","dev":"eth1"}`)
	op, err := builtins.Operations.Decode("route.add", args)
	if err != nil {
		t.Fatal(err)
	}
	call := engine.Call{Name: "route.add", Args: args, Op: op}
	plan := &engine.NodePlan{Node: ns}
	if _, err := engine.NewPrediction(plan, engine.Limits{}, sim.Over(c), nil).Do(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	e := plan.Steps[0].Edit
	if found, err := c.Apply(t.Context(), e); err != nil || len(e.Diff()) != 1 || len(found) != len(e.After) {
		t.Fatalf("%d changes, %v", len(e.Diff()), err)
	}
	t.Logf("%d bytes to predict, do and read back one route beside 100,000", wire.bytes.Load())
	if wire.bytes.Load() > 16<<10 {
		t.Errorf("%d bytes were sent", wire.bytes.Load())
	}
}
