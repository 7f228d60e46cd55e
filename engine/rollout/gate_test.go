package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
)

// hooked is a program with hooks written in Go.
type hooked struct {
	goProgram
	hook func(ctx context.Context, name string, f engine.FleetInfo, h engine.Host) error
}

func (p hooked) RunHook(ctx context.Context, name string, f engine.FleetInfo, h engine.Host) error {
	return p.hook(ctx, name, f, h)
}

// withHooks gives a program all hooks, which note when they are called.
func withHooks(p goProgram, calls *[]string, fails func(name string, wave int) error) hooked {
	p.header.Hooks = map[string]string{engine.HookBefore: "x.star:1:1", engine.HookGate: "x.star:2:1", engine.HookAfter: "x.star:3:1"}
	return hooked{p, func(_ context.Context, name string, f engine.FleetInfo, _ engine.Host) error {
		done := 0
		for _, n := range f.Nodes {
			if n.State == engine.NodeDone {
				done++
			}
		}
		*calls = append(*calls, fmt.Sprintf("%s %d/%d: %d done", name, f.Wave, f.Waves, done))
		return fails(name, f.Wave)
	}}
}

func passes(string, int) error { return nil }

func TestHooksAreCalled(t *testing.T) {
	f, infos := newFleet(5)
	var calls []string
	r, events := newRun(f, infos, withHooks(addRoute([]string{"1", "3", "100%"}, 0), &calls, passes))
	plans := predicted(t, r)
	if err := r.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(t.Context(), plans); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"before 0/3: 0 done", "gate 0/3: 0 done", // while planning
		"before 0/3: 0 done", "gate 0/3: 0 done", "gate 1/3: 1 done", "gate 2/3: 3 done", "gate 3/3: 5 done", "after 3/3: 5 done",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("called %q\nwant   %q", calls, want)
	}
	told := 0
	for _, e := range *events {
		if e.Kind == engine.EventGate && e.Err == nil {
			told++
		}
	}
	if told != len(want) {
		t.Errorf("%d were told of, want %d", told, len(want))
	}
}

// A gate that does not pass while planning refuses the run; later it keeps further nodes from starting.
func TestGateThatDoesNotPass(t *testing.T) {
	for wave, done := range []int{0, 1, 3} {
		f, infos := newFleet(5)
		var calls []string
		r, _ := newRun(f, infos, withHooks(addRoute([]string{"1", "3", "100%"}, 0), &calls, func(name string, at int) error {
			if name == engine.HookGate && at == wave {
				return engine.Unreachable.Errorf("7 of 200 connections left")
			}
			return nil
		}))
		plans := predicted(t, r)
		if e := r.Watch(t.Context()); (wave == 0) != (e != nil) || e != nil && (e.Code != engine.GateFailed || e.Left != engine.NothingChanged || e.Cause != "gate: 7 of 200 connections left") {
			t.Errorf("wave %d: planning says %v", wave, e)
		}
		states, err := r.Apply(t.Context(), plans)
		if err == nil || err.Code != engine.GateFailed || !strings.Contains(err.Cause, "7 of 200") {
			t.Errorf("wave %d: got %v", wave, err)
		}
		if got := f.changed(t); len(got) != done {
			t.Errorf("wave %d: changed %v, want %d", wave, got, done)
		}
		untried := 0
		for _, s := range states {
			if s == engine.NodeUntried {
				untried++
			}
		}
		if untried != 5-done || slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, "after") }) {
			t.Errorf("wave %d: %v, %q", wave, states, calls)
		}
	}
}

// The gate looks while a wave bakes, and a run does not wait for the end of that when it does not pass.
func TestGateWhileBaking(t *testing.T) {
	f, infos := newFleet(3)
	var calls []string
	p := addRoute([]string{"1", "100%"}, 0)
	p.header.Rollout.Bake, p.header.Rollout.GateEvery = engine.Duration(time.Hour), engine.Duration(10*time.Millisecond)
	looks := 0
	r, _ := newRun(f, infos, withHooks(p, &calls, func(name string, wave int) error {
		if wave == 1 {
			looks++
		}
		if looks == 5 {
			return engine.Unreachable.Errorf("it is ill")
		}
		return nil
	}))
	if _, err := r.Apply(t.Context(), predicted(t, r)); err == nil || err.Code != engine.GateFailed {
		t.Errorf("got %v", err)
	}
	if got := f.changed(t); len(got) != 1 {
		t.Errorf("changed %v", got)
	}
}

// A hook asks any node of the run, and changes none.
func TestHookAsksNodes(t *testing.T) {
	f, infos := newFleet(2)
	ask := func(h engine.Host, node, name string, op engine.Operation) (any, error) {
		args, _ := json.Marshal(op)
		return h.Do(t.Context(), engine.Call{Name: name, Args: args, Op: op, Pos: "x.star:9:9", Node: node})
	}
	p := addRoute([]string{"100%"}, 0)
	p.header.Hooks = map[string]string{engine.HookGate: "x.star:2:1"}
	var hostnames []any
	program := hooked{p, func(_ context.Context, _ string, fl engine.FleetInfo, h engine.Host) error {
		for _, n := range fl.Nodes {
			v, err := ask(h, n.Name, "facts", builtins.Facts{})
			if err != nil {
				return err
			}
			hostnames = append(hostnames, v.(map[string]any)["hostname"])
		}
		if _, err := ask(h, "node-9", "facts", builtins.Facts{}); err == nil || !strings.Contains(err.Error(), "is no node of this run") {
			t.Errorf("another node: %v", err)
		}
		_, err := ask(h, "node-1", "route.add", builtins.RouteAdd{})
		return err
	}}
	r, _ := newRun(f, infos, program)
	predicted(t, r)
	e := r.Watch(t.Context())
	if e == nil || e.Code != engine.Invalid || e.Pos != "x.star:9:9" || e.Node != "node-1" || !strings.Contains(e.Cause, "route.add changes a node, and gate may only look") {
		t.Errorf("got %v", e)
	}
	if fmt.Sprint(hostnames) != "[node-1 node-2]" || len(f.changed(t)) > 0 {
		t.Errorf("hostnames %v, changed %v", hostnames, f.changed(t))
	}
}

// What a hook prints counts to what the run may print, and what it asks to what each node may be asked.
func TestHooksAreLimited(t *testing.T) {
	f, infos := newFleet(3)
	p := addRoute([]string{"1", "100%"}, 0)
	p.header.Hooks = map[string]string{engine.HookGate: "x.star:2:1"}
	for _, tt := range []struct {
		limit  engine.Limit
		n      int64
		hook   func(engine.FleetInfo, engine.Host) error
		want   string // "": it passes
		passes int    // gates before that
	}{
		{engine.LimitOutput, 9, func(_ engine.FleetInfo, h engine.Host) error { return h.Print("x.star:3:9", "four") }, "x.star:3:9: print: gate: the run would print 10B, but limit output = 9B (x.star:1:1)", 1},
		{engine.LimitOutput, 15, func(_ engine.FleetInfo, h engine.Host) error { return h.Print("x.star:3:9", "four") }, "x.star:3:9: print: gate: the run would print 20B, but limit output = 15B (x.star:1:1)", 3},
		{engine.LimitOutput, 20, func(_ engine.FleetInfo, h engine.Host) error { return h.Print("x.star:3:9", "four") }, "", 4},
		{engine.LimitCallsPerNode, 2, func(fl engine.FleetInfo, h engine.Host) error {
			for range 2 {
				for _, n := range fl.Nodes {
					if _, err := h.Do(t.Context(), engine.Call{Name: "facts", Args: json.RawMessage("{}"), Op: builtins.Facts{}, Pos: "x.star:3:9", Node: n.Name}); err != nil {
						return err
					}
				}
			}
			return nil
		}, "", 4},
		{engine.LimitCallsPerNode, 2, func(_ engine.FleetInfo, h engine.Host) (err error) {
			for range 3 {
				_, err = h.Do(t.Context(), engine.Call{Name: "facts", Args: json.RawMessage("{}"), Op: builtins.Facts{}, Pos: "x.star:3:9", Node: "node-1"})
			}
			return err
		}, "x.star:3:9: facts on node-1: gate: this would be call 3 on the node, but limit calls_per_node = 2 (x.star:1:1)", 0},
	} {
		p.header.Limits = engine.Limits{tt.limit: {N: tt.n, Source: "x.star:1:1"}}
		passes := 0
		r, _ := newRun(f, infos, hooked{p, func(_ context.Context, _ string, fl engine.FleetInfo, h engine.Host) error {
			err := tt.hook(fl, h)
			if err == nil {
				passes++
			}
			return err
		}})
		plans := predicted(t, r)
		e := r.Watch(t.Context())
		if e == nil {
			_, e = r.Apply(t.Context(), plans)
		}
		err := error(nil)
		if e != nil {
			err = e
		}
		if passes != tt.passes || tt.want == "" && err != nil || tt.want != "" && (err == nil || e.Code != engine.LimitHit || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s = %d: after %d gates %v, want %q after %d", tt.limit, tt.n, passes, err, tt.want, tt.passes)
		}
		f, infos = newFleet(3)
	}
}

func TestSpread(t *testing.T) {
	var nodes []engine.NodeInfo
	for i, rack := range []any{"b", "a", "a", nil, "b", 7, "a"} {
		n := engine.NodeInfo{Name: fmt.Sprint(i)}
		if rack != nil {
			n.Vars = map[string]any{"rack": rack}
		}
		nodes = append(nodes, n)
	}
	order := func(nodes []engine.NodeInfo) (out string) {
		for _, n := range nodes {
			out += n.Name
		}
		return out
	}
	if got := order(rollout.Spread(nodes, "rack")); got != "3510246" {
		t.Errorf("got %s", got)
	}
	if again := order(rollout.Spread(rollout.Spread(nodes, "rack"), "rack")); again != order(rollout.Spread(nodes, "rack")) {
		t.Errorf("spread again: %s", again)
	}
	if got := order(rollout.Spread(nodes, "")); got != "0123456" {
		t.Errorf("without a variable: %s", got)
	}
}

// At most so many nodes are changed at a time as the runbook says.
func TestParallel(t *testing.T) {
	f, infos := newFleet(6)
	p := addRoute([]string{"100%"}, 0)
	p.header.Rollout.Parallel = 2
	add := p.run
	live := false
	now, most := make(chan struct{}, 10), 0
	var mu sync.Mutex
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		if live {
			now <- struct{}{}
			mu.Lock()
			most = max(most, len(now))
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			defer func() { <-now }()
		}
		return add(ctx, node, h)
	}
	r, _ := newRun(f, infos, p)
	plans := predicted(t, r)
	live = true
	if _, err := r.Apply(t.Context(), plans); err != nil || most > 2 {
		t.Errorf("%d at a time, %v", most, err)
	}
}

// on_failure = "keep" leaves a failed node with what was changed there; one that answers otherwise is put back all the same.
func TestOnFailureKeep(t *testing.T) {
	for _, c := range []struct {
		keep string
		code engine.Code
		kept int
	}{{"", engine.Invalid, 0}, {engine.FailedPutBack, engine.Invalid, 0}, {engine.FailedKeep, engine.Invalid, 1}, {engine.FailedKeep, engine.Differs, 0}} {
		f, infos := newFleet(1)
		p := addRoute([]string{"100%"}, 0)
		p.header.Rollout.OnFailure = c.keep
		add, live := p.run, false
		p.run = func(ctx context.Context, node string, h engine.Host) error {
			if err := add(ctx, node, h); err != nil || !live {
				return err
			}
			if err := h.Sleep(ctx, 0); err != nil { // so that it is made
				return err
			}
			return c.code.Errorf("something is wrong")
		}
		r, _ := newRun(f, infos, p)
		plans := predicted(t, r)
		live = true
		states, err := r.Apply(t.Context(), plans)
		if got := f.changed(t); err == nil || states["node-1"] != engine.NodeFailed || len(got) != c.kept {
			t.Errorf("%+v: %v, %v, changed %v", c, states, err, got)
		}
	}
}
