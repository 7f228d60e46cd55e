package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// sessions is a world whose node has a Postgres beside it with n idle sessions.
func sessions(t *testing.T, n int) *world {
	s := sim.LabNode("node-1", 1)
	p := resource.Postgres{Server: "service=main", Version: 150000, Max: 100, Role: "ops", SeesAll: true, Signals: true}
	s[p.Key()] = p
	for i := range n {
		b := resource.Backend{Server: p.Server, PID: 10 + i, Start: time.Unix(int64(i), 0).UTC(), Type: resource.ClientBackend, User: "app", State: resource.Idle}
		s[b.Key()] = b
	}
	return &world{t: t, node: sim.New(s)}
}

func terminate(t *testing.T) engine.Call {
	return call(t, "pg.terminate", `{"server":"service=main","state":"idle"}`)
}

// Each session that is to end is a change to the limits, though one call asks for all.
func TestEachSessionCounts(t *testing.T) {
	w := sessions(t, 40)
	err := w.predict(terminate(t))
	if code(err) != engine.LimitHit || !strings.Contains(err.Error(), "this would be change 40 on the node, but limit changes_per_node = 10") {
		t.Errorf("got %v", err)
	}
	few := engine.Limits{engine.LimitChangesPerNode: {N: 40}, engine.LimitChanges: {N: 39}}
	plan := &engine.NodePlan{}
	pass := engine.NewPrediction(plan, few, sim.Over(w.node), func(engine.Event) {}).Under(engine.Terms{Tally: engine.NewTally(0)})
	if _, err = pass.Do(t.Context(), terminate(t)); code(err) != engine.LimitHit || !strings.Contains(err.Error(), "this would be change 40 of the run") {
		t.Errorf("got %v", err)
	}
	enough := engine.Limits{engine.LimitChangesPerNode: {N: 40}}
	plan = &engine.NodePlan{}
	pass = engine.NewPrediction(plan, enough, sim.Over(w.node), func(engine.Event) {})
	got, err := pass.Do(t.Context(), terminate(t))
	if err != nil || plan.Count() != 40 || len(plan.Changes()) != 1 || (&engine.Plan{Nodes: []*engine.NodePlan{plan}}).Changes() != 40 {
		t.Errorf("%v: %d changes of %d calls", err, plan.Count(), len(plan.Changes()))
	}
	if b, _ := json.Marshal(got); strings.Count(string(b), `"pid"`) != 40 {
		t.Errorf("%s", b)
	}
}

// A run that fails after it has ended sessions puts back what it can, and says what it cannot; so
// does an undo.
func TestEndedSessionsAreNotPutBack(t *testing.T) {
	w := sessions(t, 3)
	if err := w.predict(call(t, "route.add", addRoute), terminate(t)); err != nil {
		t.Fatal(err)
	}
	pass := w.live()
	for _, c := range []engine.Call{call(t, "route.add", addRoute), terminate(t)} {
		if _, err := pass.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := pass.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := func() (routes, backends int) {
		s, err := w.node.Read(t.Context(), resource.Query{{Kind: resource.KindRoute, Dst: someRoute("10.20.0.0/16", "10.98.0.1").Dst}, {Kind: resource.KindBackend}})
		if err != nil {
			t.Fatal(err)
		}
		return len(resource.All[resource.Route](s)), len(resource.All[resource.Backend](s))
	}
	if routes, backends := left(); routes != 1 || backends != 0 {
		t.Fatalf("%d routes, %d sessions", routes, backends)
	}
	const said = "cannot be put back: pg.terminate state=idle has ended sessions, 3 at most"
	undo := engine.NewUndo(engine.RunRecord{ID: "r"}, named(w), nil)
	plan := &engine.NodePlan{Node: "node-1"}
	err := undo.Run(t.Context(), engine.NodeInfo{Name: "node-1"}, engine.NewPrediction(plan, undo.Header().Limits, sim.Over(w.node), func(engine.Event) {}))
	if err != nil || undo.LeftAlone() != nil || len(plan.Changes()) != 1 || !slices.Equal(plan.Prints, []string{said}) {
		t.Errorf("%v, %v, %d changes, %q", err, undo.LeftAlone(), len(plan.Changes()), plan.Prints)
	}
	if err := pass.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if routes, backends := left(); routes != 0 || backends != 0 {
		t.Errorf("%d routes, %d sessions", routes, backends)
	}
	if !slices.ContainsFunc(w.events, func(e engine.Event) bool { return e.Text == said }) || !slices.Equal(pass.Gone(), []string{said}) {
		t.Errorf("it was not said: %v, %q", w.events, pass.Gone())
	}
}

// A plan that is to end other sessions by now has drifted, by those that came and those that went.
func TestDriftOfSessions(t *testing.T) {
	was, now := sessions(t, 3), sessions(t, 4)
	gone := resource.Backend{Server: "service=main", PID: 10, Start: time.Unix(0, 0).UTC()}
	now.node.(*sim.Node).Hold(resource.State{gone.Key(): nil})
	for _, w := range []*world{was, now} {
		if err := w.predict(terminate(t)); err != nil {
			t.Fatal(err)
		}
	}
	d, same := was.plan.Drift(now.plan)
	if same || len(d) != 2 || d[0].After != nil || d[0].Key != gone.Key() || d[1].Before != nil || !strings.Contains(d[1].After.String(), "13 app") {
		t.Errorf("%v, %v", same, d)
	}
}

// named is the record of w with the names of its changes, as the journal has them.
func named(w *world) []engine.Entry {
	out := slices.Clone(w.journal.entries)
	for i, e := range out {
		if e.Kind == engine.EntryIntent {
			step := w.plan.Steps[e.Nth]
			out[i].Op, out[i].Edit = step.Title(), &step.Edit
		}
	}
	return out
}

// sparing is a node that leaves alone what has come back to life by the time.
type sparing struct {
	*sim.Node
	pid int
}

func (n sparing) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	s, err := n.Node.Apply(ctx, e)
	for k, r := range e.Before {
		if b, ok := r.(resource.Backend); ok && err == nil && b.PID == n.pid && len(e.Want) > 0 {
			b.Left = "it is no more what was selected"
			s[k] = b
		}
	}
	return s, err
}

// A session that was left alone is as good as ended to the run, which says that it was not.
func TestSparedSessionsAreTold(t *testing.T) {
	w := sessions(t, 2)
	if err := w.predict(terminate(t)); err != nil {
		t.Fatal(err)
	}
	pass := engine.NewLive(w.plan, engine.Limits{}, sparing{w.node.(*sim.Node), 11}, &w.journal, "r", func(e engine.Event) { w.events = append(w.events, e) })
	if _, err := w.do(pass, terminate(t)); err != nil {
		t.Fatal(err)
	}
	const said = "left alone: it is no more what was selected"
	done := slices.IndexFunc(w.journal.entries, func(e engine.Entry) bool { return e.Kind == engine.EntryDone })
	if done < 0 || !strings.Contains(w.journal.entries[done].Text, "backend 11 app") || !strings.Contains(w.journal.entries[done].Text, said) {
		t.Errorf("the record says %q", w.journal.entries[done].Text)
	}
	if !slices.ContainsFunc(w.events, func(e engine.Event) bool {
		return e.Kind == engine.EventPrint && strings.Contains(e.Text, said)
	}) {
		t.Errorf("nobody is told: %s", fmt.Sprint(w.events))
	}
}
