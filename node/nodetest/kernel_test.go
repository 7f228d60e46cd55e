//go:build linux

package nodetest_test

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"runbook/engine"
	"runbook/node/linux"
	"runbook/node/nodetest"
)

// The random tests draw the same sequences every time, so that what they say of a
// change is about that change; with RUNBOOK_RANDOM_OPS they look for new ones.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("RUNBOOK_RANDOM_OPS") == "" && flag.Lookup("rapid.seed").Value.String() == "0" {
		if err := flag.Set("rapid.seed", "20261128"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// kernel is a Factory of nodes that are namespaces of this kernel.
func kernel(t *testing.T, s nodetest.Start) engine.Node {
	n, err := linux.OpenAt("/run/netns/" + s.Namespace(t))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRandom holds the simulator to the kernel beyond the table of the suite.
func TestRandom(t *testing.T) { nodetest.Random(t, kernel) }

// TestRandomPolicy does so for rules and neighbours.
func TestRandomPolicy(t *testing.T) { nodetest.RandomPolicy(t, kernel) }

// TestRandomAddrs does so for addresses.
func TestRandomAddrs(t *testing.T) {
	made, refusals, unpredicted, undone := nodetest.RandomAddrs(t, kernel)
	t.Logf("%d changes: %d refused, %d taken back, %d not modelled", made, refusals, undone, unpredicted)
}

// TestRandomAll does so for operations of every kind together, and takes all of
// them back. RUNBOOK_RANDOM_OPS is how many it makes; RUNBOOK_RANDOM_UNDO=off leaves the taking back out.
func TestRandomAll(t *testing.T) {
	operations := 1500
	if s := os.Getenv("RUNBOOK_RANDOM_OPS"); s != "" {
		var err error
		if operations, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(nodetest.RandomAll(t, kernel, operations, os.Getenv("RUNBOOK_RANDOM_UNDO") != "off"))
}
