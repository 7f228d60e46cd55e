package rollout_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/node/sim"
)

// guarded is a node that can be cut off: what takes a guarded change cuts every
// connection, and new ones come about only if the change lets them.
type guarded struct {
	mu        sync.Mutex
	kernel    engine.Node
	before    resource.State // what is put back when the guardian acts
	token     string
	confirmed int
	cut       bool // new connections fail
	dials     int
	acts      time.Duration // after the change; 0: never
}

// Dial implements [engine.Dialer].
func (g *guarded) Dial(context.Context, string) (engine.Node, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.cut {
		return nil, engine.Unreachable.Errorf("no route to host")
	}
	return &guardedLine{node: g}, nil
}

// guardedLine is one connection to it.
type guardedLine struct {
	node *guarded
	dead bool
}

func (l *guardedLine) Close() error { return nil }
func (l *guardedLine) Lost() bool   { return l.dead }

func (l *guardedLine) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := l.node.kernel.Read(ctx, q)
	own := resource.Sessions{Dev: "eth1", Own: true, Count: 1}
	s[own.Key()] = own
	return s, err
}

func (l *guardedLine) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	s, err := l.node.kernel.Apply(ctx, e)
	if e.Guard == nil || err != nil {
		return s, err
	}
	l.node.token, l.node.before = e.Guard.Token, e.Reverse().Want
	if l.node.acts > 0 {
		l.node.cut, l.dead = true, true
		time.AfterFunc(l.node.acts, l.node.putBack)
		return nil, engine.Unreachable.Errorf("the connection is lost")
	}
	return s, err
}

func (g *guarded) putBack() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kernel.Apply(context.Background(), engine.Edit{Want: g.before}) //nolint:errcheck // the test looks
	g.cut = false
}

func (l *guardedLine) Confirm(_ context.Context, token string) error {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	if token != l.node.token {
		return fmt.Errorf("%q is not its token", token)
	}
	l.node.confirmed++
	return nil
}

// cutting is a model that predicts that every change cuts runbook's own connection.
type cutting struct{ engine.Model }

func (c cutting) Predict(ctx context.Context, e *engine.Edit) error {
	err := c.Model.Predict(ctx, e)
	e.Cuts = []engine.Cut{{Sessions: resource.Sessions{Dev: "eth1", Own: true, Count: 1}}}
	return err
}

func runGuarded(t *testing.T, g *guarded, within time.Duration) (engine.NodeState, *engine.Error, *recorded) {
	t.Helper()
	g.kernel = sim.New(sim.LabNode("node-1", 1))
	p := addRoute([]string{"100%"}, 0)
	p.header.Rollout.ConfirmWithin = engine.Duration(within)
	var rec recorded
	r := &rollout.Run{
		Program: p, Nodes: []engine.NodeInfo{{Name: "node-1"}}, Dialer: g, Journal: &rec, ID: "r",
		Model: func(n engine.Reader) engine.Model { return cutting{sim.Over(n)} },
		Emit:  func(e engine.Event) { rec.events = append(rec.events, e) },
	}
	defer r.Close()
	plans, err := r.Predict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if refused := rollout.Refusal(plans, 0); refused != nil {
		t.Fatal(refused)
	}
	if guard := plans[0].Steps[0].Edit.Guard; guard == nil || time.Duration(guard.Within) != within {
		t.Fatalf("the change is not guarded for %s: %v", within, guard)
	}
	states, failed := r.Apply(t.Context(), plans)
	return states["node-1"], failed, &rec
}

// recorded is a journal and the events of a run.
type recorded struct {
	mu      sync.Mutex
	entries []engine.Entry
	events  []engine.Event
}

func (r *recorded) Begin(context.Context, engine.RunRecord) (string, error) { return "r", nil }
func (r *recorded) Append(_ context.Context, e ...engine.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e...)
	return nil
}
func (r *recorded) Reserve(context.Context, engine.Reservation) (engine.Used, error) { return nil, nil }
func (r *recorded) End(context.Context, string, engine.Outcome) error                { return nil }

func TestGuardedChangeIsConfirmedOverANewConnection(t *testing.T) {
	g := &guarded{}
	state, failed, rec := runGuarded(t, g, time.Minute)
	if state != engine.NodeDone || failed != nil {
		t.Fatalf("the node is %s: %v", state, failed)
	}
	if g.confirmed != 1 || g.dials != 2 {
		t.Errorf("confirmed %d times over %d connections, want once over the second", g.confirmed, g.dials)
	}
	confirmed := false
	for _, e := range rec.events {
		confirmed = confirmed || e.Kind == engine.EventConfirmed
	}
	if !confirmed {
		t.Errorf("nothing tells that it was confirmed: %v", rec.events)
	}
	for _, e := range rec.entries {
		if e.Edit != nil && e.Edit.Guard != nil && e.Edit.Guard.Token != "" {
			t.Errorf("the journal holds the token: %v", e)
		}
	}
}

// A node that is cut off puts itself back, and the run waits to see that it has.
func TestNodeThatIsCutOffIsSeenToComeBack(t *testing.T) {
	g := &guarded{acts: 2 * time.Second}
	state, failed, _ := runGuarded(t, g, time.Second)
	if state != engine.NodeFailed || failed == nil || failed.Code != engine.Unreachable {
		t.Fatalf("the node is %s: %v", state, failed)
	}
	if !strings.Contains(failed.Left, "put back") {
		t.Errorf("what is left: %q, want that it was put back", failed.Left)
	}
	s, err := g.kernel.Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
	if err != nil || s[key] != nil {
		t.Errorf("the node holds %v: %v", s[key], err)
	}
}

// A change whose answer was lost, because the node is reached anew, was made all the same.
func TestAnswerThatWasLostIsFoundAgain(t *testing.T) {
	g := &guarded{acts: time.Hour}
	done := make(chan struct{})
	defer close(done)
	go func() { // the network finds its new way
		select {
		case <-time.After(time.Second):
			g.mu.Lock()
			g.cut = false
			g.mu.Unlock()
		case <-done:
		}
	}()
	state, failed, _ := runGuarded(t, g, time.Minute)
	if state != engine.NodeDone || failed != nil || g.confirmed != 1 {
		t.Fatalf("the node is %s, confirmed %d times: %v", state, g.confirmed, failed)
	}
}

// A node refuses to be disrupted again in the same place, before anything is changed.
func TestRepeatIsRefused(t *testing.T) {
	remembered := resource.Memory{Of: "link eth1", Verb: "restart", Run: "20261128-aa", By: "ann@ops", Age: 3 * time.Minute, Ended: true}
	e := engine.Edit{Disrupts: "link eth1", Verb: "restart"}
	err := engine.RefuseRepeat(remembered, e)
	if err == nil || err.Code != engine.LimitHit || !strings.Contains(err.Error(), "20261128-aa by ann@ops") {
		t.Fatalf("got %v", err)
	}
	for what, allowed := range map[string]func(m *resource.Memory, e *engine.Edit){
		"another link": func(m *resource.Memory, e *engine.Edit) { e.Disrupts = "link eth0" },
		"long ago":     func(m *resource.Memory, e *engine.Edit) { m.Age = engine.DefaultRepeatWindow },
		"meant":        func(m *resource.Memory, e *engine.Edit) { e.Repeat = true },
		"an undo":      func(m *resource.Memory, e *engine.Edit) { e.Undo = true },
	} {
		m, edit := remembered, e
		allowed(&m, &edit)
		if err := engine.RefuseRepeat(m, edit); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	remembered.Undo, e.Undo = true, true
	if err := engine.RefuseRepeat(remembered, e); err == nil {
		t.Error("an undo takes down again what an undo took down")
	}
	if err := engine.RefusePending(resource.Memory{Pending: true, Run: "other"}, "mine"); err == nil {
		t.Error("a change is built on one that may vanish")
	}
	if err := engine.RefusePending(resource.Memory{Pending: true, Run: "mine"}, "mine"); err != nil {
		t.Error(err)
	}
}
