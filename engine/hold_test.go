package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// occupied is a node on which a run works: it says so, and lets no other change it.
type occupied struct {
	engine.Node
	by    resource.Memory
	edits []engine.Edit
}

func occupiedBy(n engine.Node, run, name string) *occupied {
	return &occupied{Node: n, by: resource.Memory{Of: resource.TheNode, Held: true, Run: run, By: "ann@ops", Node: name, Age: time.Minute}}
}

func (o *occupied) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := o.Node.Read(ctx, q)
	if err == nil && q.Match(o.by) {
		s[o.by.Key()] = o.by
	}
	return s, err
}

func (o *occupied) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	o.edits = append(o.edits, e)
	if err := engine.RefuseHeld(o.by, e.Run, e.Node); err != nil {
		return nil, err
	}
	return o.Node.Apply(ctx, e)
}

// Who would change a node on which another run works is told so by the prediction; a plan is not kept off.
func TestPredictingWhereAnotherRunWorks(t *testing.T) {
	for _, c := range []struct{ run, by, name, want string }{
		{"r", "other", "node-1", "run other of ann@ops works on this node, since 20"},
		{"r", "", "", "run (it has not said which) works on this node, since 20"},
		{"r", "r", "www", "this run works on the same machine already, as node www"},
		{"r", "r", "node-1", ""},
		{"", "other", "node-1", ""},
	} {
		w := newWorld(t)
		w.node = occupiedBy(w.node, c.by, c.name)
		w.plan = &engine.NodePlan{Node: "node-1"}
		pass := engine.NewPrediction(w.plan, engine.Limits{}, sim.Over(w.node), func(engine.Event) {}).Under(engine.Terms{Run: c.run})
		_, err := pass.Do(t.Context(), call(t, "route.add", addRoute))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want != "" && (code(err) != engine.Unreachable || !strings.Contains(err.Error(), c.want) || engine.AsError(err).Left != engine.NothingChanged):
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := pass.Do(t.Context(), call(t, "route.list", "{}")); c.want == "" && err != nil {
			t.Errorf("%+v: looking: %v", c, err)
		}
	}
}

// A node that refuses to begin was not changed, which is known without asking it.
func TestANodeThatRefusesToBegin(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	n := occupiedBy(w.node, "other", "node-1")
	w.node = n
	pass := w.live()
	_, err := w.do(pass, add)
	if code(err) != engine.Unreachable || !strings.Contains(err.Error(), "run other of ann@ops works on this node") {
		t.Errorf("got %v", err)
	}
	asked := len(n.edits)
	if err := pass.PutBack(t.Context()); err != nil || pass.Changed() != 0 || len(n.edits) != asked {
		t.Errorf("%v; %d changes stand; it was asked %d times", err, pass.Changed(), len(n.edits)-asked)
	}
	if k := w.journal.kinds(); k != "plan intent failed undone" {
		t.Errorf("journal: %s", k)
	}
}

// All that a run does to a node says whose it is, what puts it back too: over
// another connection it is another agent, which has the node for no run yet.
func TestPuttingBackIsOfTheRun(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	n := occupiedBy(w.node, "r", "node-1")
	w.node = n
	pass := w.live().Under(engine.Terms{By: "ann@ops"})
	if _, err := w.do(pass, add); err != nil {
		t.Fatal(err)
	}
	if err := pass.PutBack(t.Context()); err != nil || w.has(routeKey) {
		t.Errorf("%v; the route is there: %v", err, w.has(routeKey))
	}
	if len(n.edits) != 3 { // the change, a look, and what takes it back
		t.Errorf("%d edits", len(n.edits))
	}
	for _, e := range n.edits {
		if e.Run != "r" || e.By != "ann@ops" || e.Node != "node-1" {
			t.Errorf("an edit of %q by %q on %q", e.Run, e.By, e.Node)
		}
	}
}
