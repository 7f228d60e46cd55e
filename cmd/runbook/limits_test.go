package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/journal"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
	"runbook/policy"
)

// This file holds every limit of engine.LimitTable to two things: it stops a run
// that wants more, in words that say which limit it is, who set it and
// where the script asked; and nothing inside a runbook raises it.

// hitting is a run that wants more than a limit allows.
type hitting struct {
	low   string // what the limit is set to, as people write it
	body  string // of run(node, p)
	asked string // what the error says of the count
	at    bool   // a line of the script asked for it
	delay time.Duration
	dead  int // nodes that do not answer, of three
	twice bool
}

const (
	threeRoutes = "for i in range(3):\n        node.route.add(dst = \"10.20.%d.0/24\" % i, via = \"10.98.0.1\", dev = \"eth1\")"
	oneRoute    = `node.route.add(dst = "10.20.0.0/24", via = "10.98.0.1", dev = "eth1")`
)

var hits = map[engine.Limit]hitting{
	engine.LimitNodes:            {low: "2", body: oneRoute, asked: "3 nodes are selected"},
	engine.LimitChanges:          {low: "2", body: oneRoute, asked: "change 3 of the run", at: true},
	engine.LimitChangesPerNode:   {low: "2", body: threeRoutes, asked: "change 3 on the node", at: true},
	engine.LimitRepeats:          {low: "1", body: oneRoute + "\n    node.route.delete(dst = \"10.20.0.0/24\")\n    " + oneRoute, asked: "the same change for the 2nd time", at: true},
	engine.LimitCallsPerNode:     {low: "5", body: "for _ in range(9):\n        node.facts()", asked: "call 6 on the node", at: true},
	engine.LimitDisruptive:       {low: "0", body: `node.link.restart("eth1")`, asked: "this would disrupt the node", at: true},
	engine.LimitChangesPerMinute: {low: "2", body: threeRoutes, asked: "change 3 on the node", at: true},
	engine.LimitFailures:         {low: "0", body: oneRoute, asked: "1 node failed", dead: 1},
	engine.LimitDuration:         {low: "1s", body: oneRoute, asked: "longer than", delay: 3 * time.Second},
	engine.LimitSteps:            {low: "20000", body: "for _ in range(1000000):\n        pass", asked: "still running after 20000 steps", at: true},
	engine.LimitMemory:           {low: "128MB", body: `print(len("x" * (1 << 29)))`, asked: "needs more memory", at: true},
	engine.LimitOutput:           {low: "10B", body: `print("more than ten")`, asked: "would print", at: true},
	engine.LimitNodesPerHour:     {low: "4", body: oneRoute, asked: "3 nodes were changed by this runbook on this inventory within the last hour, and this run would add 3", twice: true},
	engine.LimitChangesPerHour:   {low: "4", body: oneRoute, asked: "3 changes were made by this runbook on this inventory within the last hour, and this run would add 3", twice: true},
	engine.LimitFailuresPerHour:  {low: "0", body: oneRoute, asked: "1 nodes failed by this runbook", dead: 1, twice: true},
}

// written is a value of a limit in Starlark.
func written(info engine.LimitInfo, value string) string {
	if info.Unit == engine.Count {
		return value
	}
	return fmt.Sprintf("%q", value)
}

// trial is a runbook in a folder of its own, which is its inventory too.
type trial struct {
	hitting
	dir      string
	journal  *journal.Journal
	flags    engine.Limits // of --limit
	ceilings engine.Limits // of policies
}

func newTrial(t *testing.T, j *journal.Journal, h hitting, files map[string]string) *trial {
	t.Helper()
	tr := &trial{hitting: h, dir: t.TempDir(), journal: j}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(tr.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// testJournal is a journal of the test's own.
func testJournal(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() }) //nolint:errcheck // it is thrown away
	return j
}

// Dial implements [engine.Dialer].
func (tr *trial) Dial(ctx context.Context, name string) (engine.Node, error) {
	if tr.delay > 0 {
		select {
		case <-time.After(tr.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var n int
	fmt.Sscanf(name, "node-%d", &n) //nolint:errcheck // it was made so
	if n <= tr.dead {
		return nil, engine.Unreachable.Errorf("no route to host")
	}
	return &sim.Remembering{Node: sim.New(sim.LabNode(name, n))}, nil
}

// run runs book.star as the command does, and returns the limits in force, and what refused or ended it.
func (tr *trial) run(t *testing.T) (engine.Limits, error) {
	t.Helper()
	ctx := t.Context()
	book := engine.Source{Main: filepath.Join(tr.dir, "book.star")}
	program, err := script.Start(ctx, script.Config{Ops: builtins.Operations, Limits: tr.flags}, book)
	if err != nil {
		return nil, err
	}
	s := &session{program: program, source: program.Source(), params: map[string]string{}, fleet: &fleet{inventory: tr.dir, close: func() {}}}
	for i := range 3 {
		s.fleet.nodes = append(s.fleet.nodes, engine.NodeInfo{Name: fmt.Sprintf("node-%d", i+1)})
	}
	s.run = &rollout.Run{
		Program: program, Nodes: s.fleet.nodes, Dialer: tr, Emit: func(engine.Event) {}, Ceilings: tr.flags.Meet(tr.ceilings), Journal: tr.journal,
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
	}
	defer s.close()
	if err := errors.Join(s.bind(), program.Limit(s.run.Limits())); err != nil {
		return nil, err
	}
	limits := s.run.Limits()
	if s.run.ID, err = tr.journal.Begin(ctx, engine.RunRecord{Verb: "run"}); err != nil {
		t.Fatal(err)
	}
	states, err := tr.carryOut(ctx, s)
	outcome := engine.Outcome{Nodes: map[string]string{}}
	for n, st := range states {
		outcome.Nodes[n] = string(st)
	}
	if jerr := tr.journal.End(ctx, s.run.ID, outcome); jerr != nil {
		t.Fatal(jerr)
	}
	return limits, err
}

func (tr *trial) carryOut(ctx context.Context, s *session) (map[string]engine.NodeState, error) {
	p, refused, watching, err := s.foresee(ctx, nil)
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return nil, refused
	case watching != nil:
		return nil, watching
	}
	if err := s.reserve(ctx, p); err != nil {
		return nil, err
	}
	if err := s.bind(); err != nil {
		return nil, err
	}
	states, failed := s.run.Apply(ctx, p.Nodes)
	if failed != nil {
		return states, failed
	}
	return states, nil
}

// policyOf is a policy file with one limit, as Find would read it.
func policyOf(t *testing.T, dir string, name engine.Limit, value string) (engine.Limits, string) {
	t.Helper()
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("require_reason: false\nlimits:\n  %s: %s\n", name, value)), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Set{p}.Limits(), "policy " + path + ":3:3"
}

// TestEveryLimitStopsARun: set by a header, a policy or the command line, each limit ends a run that wants
// more, and the error has its name, its value, who set it, the count, and the line that asked.
func TestEveryLimitStopsARun(t *testing.T) {
	j := testJournal(t)
	for _, info := range engine.LimitTable {
		h, known := hits[info.Name]
		if !known {
			t.Errorf("nothing hits limit %s", info.Name)
			continue
		}
		low, err := info.Parse(h.low)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []string{"header", "policy", "command line"} {
			t.Run(string(info.Name)+" of the "+by, func(t *testing.T) {
				header := fmt.Sprintf("%s = %s", info.Name, written(info, h.low))
				if by != "header" {
					header = ""
				}
				tr := newTrial(t, j, h, map[string]string{"book.star": fmt.Sprintf(
					"runbook(limits = limits(%s), rollout = rollout(max_failures = %d))\n\ndef run(node, p):\n    %s\n", header, h.failuresAllowed(), h.body)})
				source := filepath.Join(tr.dir, "book.star") + ":1:24"
				switch by {
				case "policy":
					tr.ceilings, source = policyOf(t, tr.dir, info.Name, h.low)
				case "command line":
					source = "--limit"
					if tr.flags, err = (ceilings{given: []string{string(info.Name) + "=" + h.low}}).parse(); err != nil {
						t.Fatal(err)
					}
				}
				if h.twice {
					if _, err := tr.run(t); err != nil && h.dead == 0 {
						t.Fatal(err)
					}
				}
				_, err := tr.run(t)
				if err == nil {
					t.Fatal("it stops nothing")
				}
				want := fmt.Sprintf("limit %s = %s (%s)", info.Name, info.Show(low), source)
				e := engine.AsError(err)
				if text := err.Error() + "\n" + e.Hint; !strings.Contains(text, want) || !strings.Contains(text, h.asked) {
					t.Errorf("got %s\nwant %q and %q", text, h.asked, want)
				}
				if e.Code != engine.LimitHit && info.Name != engine.LimitFailures {
					t.Errorf("code %d", e.Code)
				}
				if at := strings.HasPrefix(e.Pos, filepath.Join(tr.dir, "book.star")+":"); at != h.at {
					t.Errorf("at %q: %v", e.Pos, err)
				}
			})
		}
	}
}

// failuresAllowed is what the header says of failures: always more than there are.
func (h hitting) failuresAllowed() int { return 3 * h.dead }

// The least that limit memory can be is enough for a runbook that needs little: it would
// otherwise stop runs, now and then, for what the evaluator is.
func TestTheLeastMemoryIsEnough(t *testing.T) {
	info, _ := engine.LimitMemory.Info()
	limits := engine.Limits{engine.LimitMemory: {N: info.Min, Source: "--limit"}}
	book := engine.Source{Main: "book.star", Files: map[string]string{"book.star": "runbook()\n\ndef run(node, p):\n    print(len(\"x\" * 1000000))\n"}}
	for range 20 {
		program, err := script.Start(t.Context(), script.Config{Ops: builtins.Operations, Limits: limits}, book)
		if err != nil {
			t.Fatal(err)
		}
		err = program.Run(t.Context(), engine.NodeInfo{Name: "node-1"}, listener{})
		program.Close() //nolint:errcheck // it is over
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listener is a host that is only told things.
type listener struct{}

func (listener) Do(context.Context, engine.Call) (any, error)     { return nil, nil }
func (listener) Print(string, string) error                       { return nil }
func (listener) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
