//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// hungBook is two routes with a second between them. One node waits there for a minute, unless it has another route.
const hungBook = `"""Two routes, and a wait between them."""

runbook(
    limits = limits(nodes = 100, changes_per_node = 2, changes_per_minute = 100000, changes_per_hour = 100000, nodes_per_hour = 100000, failures_per_hour = 100000),
    rollout = rollout(waves = ["%[1]d", "100%%"], max_failures = %[2]d),
)

def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
    tries, times = [], 600 if node.name == "%[3]s" else 10
    def told():
        tries.append(1)
        expect(len(tries) == times or "10.99.99.0/24" in [r.dst for r in node.route.list()], "not yet")
    retry(times, "100ms", told)
    node.route.add(dst = "10.21.0.0/16", via = "10.98.0.1", dev = "eth1")
`

// The fleet of these tests: 50 nodes in a wave, one of which hangs, and two in a later one.
const (
	hungWave  = 50
	hungNodes = hungWave + 2
	hungNode  = "node-25"
)

// allAgents are the agents on a node, as a shell finds them.
const allAgents = "$(for e in $(find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null); do basename $(dirname $e); done)"

// signals has some processes of the node that hangs be sent a signal.
func (r realLab) signals(t *testing.T, signal, processes string) {
	t.Helper()
	r.on(t, hungNode, "kill -"+signal+" "+processes+" 2>/dev/null; true")
}

// link lets nothing through to the node that hangs or from it, and leaves the carrier; or all again.
func (r realLab) link(t *testing.T, through bool) {
	t.Helper()
	state := "0" // of a port of a bridge: disabled
	if through {
		state = "3" // forwarding
	}
	port := "m" + strings.TrimPrefix(hungNode, "node-")
	out, err := exec.Command("nsenter", "-t", strconv.Itoa(r.HolderPID()), "-n", "--", "bridge", "link", "set", "dev", port, "state", state).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// hang is a way in which a node stands still, and what becomes of the node.
type hang struct {
	begin, end func(t *testing.T)
	state      engine.NodeState
}

func (r realLab) hangs() map[string]hang {
	stopped := func(processes string, s engine.NodeState) hang {
		return hang{func(t *testing.T) { r.signals(t, "STOP", processes) }, func(t *testing.T) { r.signals(t, "CONT", processes) }, s}
	}
	return map[string]hang{
		"its agent stopped":                       stopped(allAgents, engine.NodeFailed), // another one puts it back
		"its sshd stopped, sessions included":     stopped("$(pgrep sshd)", engine.NodeInDoubt),
		"nothing comes through to it, or from it": {func(t *testing.T) { r.link(t, false) }, func(t *testing.T) { r.link(t, true) }, engine.NodeInDoubt},
	}
}

// took is how long the nodes of the first wave took, but for the one that hangs, since the wave began.
func (g *going) took(t *testing.T) (d time.Duration) {
	t.Helper()
	var began time.Time
	done := 0
	for _, e := range g.snapshot() {
		nth, _ := strconv.Atoi(strings.TrimPrefix(e.Node, "node-"))
		switch {
		case e.Kind == engine.EventWave && began.IsZero():
			began = e.Time
		case e.Kind == engine.EventNode && e.State == engine.NodeDone && e.Node != hungNode && nth <= hungWave:
			done++
			d = max(d, e.Time.Sub(began))
		}
	}
	if done != hungWave-1 {
		t.Errorf("nodes of the first wave that were done: %d, want %d", done, hungWave-1)
	}
	return d
}

// gaveUp is when the node that hangs was given up.
func (g *going) gaveUp(t *testing.T) time.Time {
	t.Helper()
	events := g.snapshot()
	i := slices.IndexFunc(events, func(e engine.Event) bool { return e.Kind == engine.EventNode && e.Node == hungNode && e.Err != nil })
	if i < 0 {
		t.Fatalf("%s was not given up", hungNode)
	}
	return events[i].Time
}

// hungStates is where all nodes stand when those of the first wave are done but for the one that hangs.
func hungStates(hung, later engine.NodeState) (out []engine.NodeState) {
	for i := range hungNodes {
		s := engine.NodeDone
		if fmt.Sprintf("node-%d", i+1) == hungNode {
			s = hung
		} else if i >= hungWave {
			s = later
		}
		out = append(out, s)
	}
	return out
}

// A node that hangs costs its own slot only: the 49 others of its wave take the time that they take
// without it, and the run ends its deadline later. It is counted: no later wave begins.
func TestHungNode(t *testing.T) {
	r := newRealLab(t, hungNodes)
	for maxFailures := range 2 {
		text := fmt.Appendf(nil, hungBook, hungWave, maxFailures, hungNode)
		if err := os.WriteFile(filepath.Join(r.dir, fmt.Sprintf("book%d.star", maxFailures)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.on(t, hungNode, tell)
	undisturbed := r.begin(t, "run", "book0.star", "-i", "lab", "--yes")
	undisturbed.exits(t, engine.OK)
	need := undisturbed.took(t)
	t.Logf("undisturbed, the %d others of the wave take %s", hungWave-1, need.Round(time.Millisecond))

	for what, h := range r.hangs() {
		t.Run(what, func(t *testing.T) {
			r.everywhere(t, clear)
			g := r.begin(t, "run", "book0.star", "-i", "lab", "--yes")
			r.inFlight(t, g, hungNode)
			h.begin(t)
			hung := time.Now()
			g.exits(t, engine.GateFailed) // a node failed, none may, and two are left untried
			took, events := g.took(t), g.snapshot()
			gaveUp, end := g.gaveUp(t), events[len(events)-1].Time
			t.Logf("the others take %s, %.2f of that; %s was given up %s after it hung, and the run ended %s later",
				took.Round(time.Millisecond), took.Seconds()/need.Seconds(), hungNode, gaveUp.Sub(hung).Round(time.Millisecond), end.Sub(gaveUp).Round(time.Millisecond))
			for _, e := range events {
				if e.Wave > 1 && e.Kind != engine.EventPlanned {
					t.Errorf("the second wave began: %s of %s", e.Kind, e.Node)
				}
				if e.Kind == engine.EventNode && e.State == engine.NodeDone && e.Time.After(gaveUp) {
					t.Errorf("%s was done only after %s had been given up", e.Node, hungNode)
				}
			}
			r.wantStates(t, hungStates(h.state, engine.NodeUntried)...)
			if held := r.on(t, hungNode, "ip route"); strings.Contains(held, "10.20.0.0/16") != (h.state == engine.NodeInDoubt) || strings.Contains(held, "10.21.0.0/16") {
				t.Errorf("it is %s and holds\n%s", h.state, held)
			}
			h.end(t)
			r.nothingLeft(t)
		})
	}

	// One that hangs already when it is to be predicted is no part of any wave.
	t.Run("before the run", func(t *testing.T) {
		r.everywhere(t, clear)
		r.link(t, false)
		g := r.begin(t, "run", "book1.star", "-i", "lab", "--yes")
		g.exits(t, engine.Unreachable)
		t.Logf("the others take %s, %.2f of that", g.took(t).Round(time.Millisecond), g.took(t).Seconds()/need.Seconds())
		r.wantStates(t, hungStates(engine.NodeFailed, engine.NodeDone)...)
		r.link(t, true)
		r.nothingLeft(t)
	})
}
