//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"runbook/engine"
)

// These tests end a run at every point at which it could be ended, one after
// another: the controller at each write to its journal, the agents at each change, the connections at
// each request. They build runbook with a few lines more at these points.

const crashNodes = 10

// crashBook is two routes and a restart. What it does last depends on what it saw before its first change.
const crashBook = `"""Two routes and a restart."""

runbook(
    limits = limits(nodes = 10, changes_per_node = 3, disruptive = 10, changes_per_minute = 100000, changes_per_hour = 100000, nodes_per_hour = 100000, failures_per_hour = 100000),
    rollout = rollout(waves = ["1", "4", "100%%"], max_failures = %d),
)

def run(node, p):
    first = "10.20.0.0/16" in [r.dst for r in node.route.list()]
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
    node.route.list()
    node.link.restart("eth1")
    if not first:
        node.route.add(dst = "10.21.0.0/16", via = "10.98.0.1", dev = "eth1")
`

// point ends this process when it is reached for the N-th time, N of a variable of the environment.
const journalPoint = `package journal

import (
	"os"
	"strconv"
	"syscall"
)

var pointsLeft, _ = strconv.Atoi(os.Getenv("CRASH_AT_WRITE"))

func point() {
	if pointsLeft--; pointsLeft == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
`

// agentPoint ends an agent when the number in a file of its node is counted down, or
// cuts the connection at the N-th request of all.
const agentPoint = `package agent

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

func point() {
	b, err := os.ReadFile("/run/crash")
	if err != nil {
		return
	}
	left, _ := strconv.Atoi(string(b))
	os.WriteFile("/run/crash", []byte(strconv.Itoa(left-1)), 0o600)
	if left == 1 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

var callsLeft atomic.Int64

func init() {
	n, _ := strconv.Atoi(os.Getenv("CRASH_AT_CALL"))
	callsLeft.Store(int64(n))
}

func (c *Client) cut() {
	if callsLeft.Add(-1) == 0 {
		c.conn.Close()
	}
}
`

// crashLab is a lab under a runbook that can be ended at its points.
type crashLab struct {
	realLab
	before, after map[string]string // what a node holds without, and with, all that the runbook does
	down          map[string]int    // how often eth1 has gone down before the run that is looked at
}

// endable is a runbook that can be ended at its points.
var endable = &build{name: "endable", texts: withPoints}

func newCrashLab(t *testing.T, maxFailures int) *crashLab {
	t.Helper()
	r := newLabOf(t, crashNodes, endable)
	if err := os.WriteFile(filepath.Join(r.dir, "book.star"), fmt.Appendf(nil, crashBook, maxFailures), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &crashLab{realLab: r}
	c.before = c.look(t).held
	if out, err := c.run("", "run").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.after = c.look(t).held
	now := c.look(t)
	if c.down = now.down; fmt.Sprint(now.held) != fmt.Sprint(c.before) {
		t.Fatalf("cleaned, the nodes hold %s\nwant %s", now.held, c.before)
	}
	return c
}

// withPoints is the files of the source in which runbook can be ended.
func withPoints(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{"engine/journal/zz_crash.go": journalPoint, "node/agent/zz_crash.go": agentPoint}
	change := func(path string, lines ...string) { // pairs: a line, and what is put in its place
		b, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(b)
		for i := 0; i < len(lines); i += 2 {
			if strings.Count(texts[path], lines[i]) != 1 {
				t.Fatalf("%s does not have once: %s", path, lines[i])
			}
			texts[path] = strings.Replace(texts[path], lines[i], lines[i+1], 1)
		}
	}
	change("engine/journal/write.go",
		"\terr := j.broken\n", "\tpoint()\n\terr := j.broken\n", // before a write,
		"\tfor _, r := range group {\n\t\tif r.err == nil {", "\tpoint()\n\tfor _, r := range group {\n\t\tif r.err == nil {") // and when it is on the disk, but nobody was told
	change("node/agent/serve.go",
		"\tfound, err := engine.ApplyAll(ctx, s.node, edits)\n", "\tpoint()\n\tfound, err := engine.ApplyAll(ctx, s.node, edits)\n\tpoint()\n")
	change("node/agent/client.go",
		"\tb, err := frame(q)\n", "\tc.cut()\n\tb, err := frame(q)\n",
		"\tcase c.out <- b:\n\tcase <-ctx.Done():\n\t\treturn response{}, c.ended(ctx)", "\tcase c.out <- b:\n\t\tc.cut()\n\tcase <-ctx.Done():\n\t\treturn response{}, c.ended(ctx)")
	return texts
}

// run is the command that runs the runbook, or takes a run up again; crash is a variable for a point.
func (c *crashLab) run(crash string, verb ...string) *exec.Cmd {
	args := append(verb, "--yes", "--repeat-anyway", "--format", "json")
	if verb[0] == "run" {
		args = append(args, "-i", "lab", "book.star")
	}
	cmd := c.command(args...)
	if crash != "" {
		cmd.Env = append(cmd.Env, crash)
	}
	return cmd
}

// each has a shell on each node do something, and returns what it says.
func (c *crashLab) each(t *testing.T, script string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var mu sync.Mutex
	var all errgroup.Group
	for _, n := range c.Nodes() {
		all.Go(func() error {
			b, err := c.command("lab", "exec", n.Name, "--", "sh", "-c", script).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", n.Name, err, b)
			}
			mu.Lock()
			defer mu.Unlock()
			out[n.Name] = strings.TrimSpace(string(b))
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	return out
}

// found is what the nodes hold, and how often eth1 of each has gone down.
type found struct {
	held map[string]string
	down map[string]int
}

// look finds out what the nodes hold, and then takes back, by hand, what the runbook does.
func (c *crashLab) look(t *testing.T) found {
	t.Helper()
	out := found{map[string]string{}, map[string]int{}}
	for name, text := range c.each(t, dumpScript+`; cat /sys/class/net/eth1/carrier_down_count
		{ ip route del 10.20.0.0/16; ip route del 10.21.0.0/16; rm -f /run/crash; } 2>/dev/null; true`) {
		lines := strings.Split(text, "\n")
		n, err := strconv.Atoi(lines[len(lines)-1])
		if err != nil {
			t.Fatalf("%s: %s", name, text)
		}
		out.held[name], out.down[name] = sortedDump(strings.Join(lines[:len(lines)-1], "\n")), n
	}
	return out
}

// newest is the newest run and its nodes, or "".
func (c *crashLab) newest(t *testing.T) (id string, o engine.Outcome) {
	t.Helper()
	out, err := c.command("runs", "--format", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var runs []engine.RunRecord
	if err := json.Unmarshal(out, &runs); err != nil || len(runs) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	if runs[0].Outcome != nil {
		o = *runs[0].Outcome
	}
	return runs[0].ID, o
}

// ended takes the newest run up until nothing is left of it, and checks where that leads.
func (c *crashLab) ended(t *testing.T, was string) {
	t.Helper()
	id, outcome := c.newest(t)
	if id == was { // it was ended before it was recorded
		if now := c.look(t); fmt.Sprint(now.held) != fmt.Sprint(c.before) {
			t.Errorf("without a record the nodes hold %s", now.held)
		}
		return
	}
	var said bytes.Buffer
	for range 5 {
		cmd := c.run("", "resume", id)
		cmd.Stdout, cmd.Stderr = &said, &said
		cmd.Run() //nolint:errcheck // the record tells
		if cmd.ProcessState.ExitCode() == int(engine.Invalid) {
			break // nothing is left
		}
	}
	id2, outcome2 := c.newest(t)
	if id2 != id {
		t.Fatalf("it became another run: %s, was %s", id2, id)
	}
	if outcome = outcome2; len(outcome.Nodes) != crashNodes {
		t.Fatalf("the record says of nodes: %v\n%s", outcome.Nodes, said.String())
	}
	now, down := c.look(t), c.down
	held := now.held
	c.down = now.down
	for n, state := range outcome.Nodes {
		restarts := now.down[n] - down[n]
		switch s := engine.NodeState(state); {
		case restarts > 1:
			t.Errorf("%s was restarted %d times", n, restarts)
		case s == engine.NodeDone && (held[n] != c.after[n] || restarts != 1):
			t.Errorf("%s is done, was restarted %d times, and holds %s\nwant %s", n, restarts, held[n], c.after[n])
		case (s == engine.NodeFailed || s == engine.NodeUntried) && (held[n] != c.before[n] || s == engine.NodeUntried && restarts != 0):
			t.Errorf("%s is %s, was restarted %d times, and holds %s\nwant %s", n, s, restarts, held[n], c.before[n])
		case s == engine.NodeInDoubt && held[n] != c.before[n] && held[n] != c.after[n]:
			t.Errorf("%s is in doubt and holds %s", n, held[n])
		case s != engine.NodeDone && s != engine.NodeFailed && s != engine.NodeUntried && s != engine.NodeInDoubt:
			t.Errorf("%s is %q", n, s)
		}
	}
	if t.Failed() {
		t.Log(said.String())
		out, _ := c.command("show", id).CombinedOutput()
		t.Log(string(out))
	}
}

// The controller is killed at every write to its journal.
func TestKilledAtEveryWrite(t *testing.T) {
	c := newCrashLab(t, 0)
	points, through := 0, 0
	for {
		was, _ := c.newest(t)
		cmd := c.run(fmt.Sprintf("CRASH_AT_WRITE=%d", points+1), "run")
		out, _ := cmd.CombinedOutput()
		killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if !killed {
			if cmd.ProcessState.ExitCode() != 0 {
				t.Fatalf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
			}
			break
		}
		points++
		c.ended(t, was)
		if t.Failed() {
			t.Fatalf("killed at write %d", points)
		}
		if _, o := c.newest(t); o.Exit == 0 {
			through++
		}
	}
	t.Logf("%d points tried; after %d of them all nodes were done", points, through)
	if points < 20 {
		t.Errorf("only %d points", points)
	}
	if out, err := c.command("runs", "--verify").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// An agent is killed before and after each change that it makes. Its node is put back or done, and no other is harmed.
func TestAgentKilledAtEveryChange(t *testing.T) {
	c := newCrashLab(t, crashNodes)
	points := 0
	for killed := true; killed; {
		was, _ := c.newest(t)
		at := points + 1
		c.each(t, fmt.Sprintf("[ $(hostname) != node-3 ] || printf %d > /run/crash", at))
		c.run("", "run").Run() //nolint:errcheck // the record tells
		left, err := strconv.Atoi(c.each(t, "cat /run/crash 2>/dev/null || echo 1; rm -f /run/crash")["node-3"])
		if err != nil {
			t.Fatal(err)
		}
		if killed = left <= 0; killed {
			points++
		}
		c.ended(t, was)
		if t.Failed() {
			t.Fatalf("the agent killed at %d", at)
		}
		if _, o := c.newest(t); killed && o.Nodes["node-10"] != string(engine.NodeDone) {
			t.Fatalf("the agent killed at %d: node-10 is %q", at, o.Nodes["node-10"])
		}
	}
	t.Logf("%d points tried", points)
	if points < 4 {
		t.Errorf("only %d points", points)
	}
}

// The connection to a node is cut at each request: before one, after the next.
func TestConnectionCutAtEveryRequest(t *testing.T) {
	c := newCrashLab(t, crashNodes)
	points := 0
	for request := 1; ; request++ {
		was, _ := c.newest(t)
		at := 2*request - request%2 // two points for each request
		cmd := c.run(fmt.Sprintf("CRASH_AT_CALL=%d", at), "run")
		cmd.Run() //nolint:errcheck // the record tells
		c.ended(t, was)
		if t.Failed() {
			t.Fatalf("cut at %d", at)
		}
		if _, o := c.newest(t); o.Exit == 0 && request > 2*crashNodes { // nothing was cut any more
			break
		}
		points++
	}
	t.Logf("%d points tried", points)
	if points < 3*crashNodes {
		t.Errorf("only %d points", points)
	}
}
