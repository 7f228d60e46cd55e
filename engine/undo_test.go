package engine_test

import (
	"errors"
	"fmt"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// undoOn predicts, on a node that holds there, the undo of a run whose one
// change was op, on the machine was.
func undoOn(t *testing.T, there resource.State, op, was string, force ...string) (*engine.NodePlan, error) {
	r := someRoute("10.20.0.0/16", "10.98.0.1")
	edit := engine.Edit{Query: resource.Query{{Kind: resource.KindRoute, Dst: r.Dst}}, Before: resource.State{}, After: resource.Of(r), Machine: was}
	undo := engine.NewUndo(engine.RunRecord{ID: "old"}, []engine.Entry{{Node: "n", Kind: "intent", Op: op, Edit: &edit}}, force)
	plan := &engine.NodePlan{Node: "n"}
	pass := engine.NewPrediction(plan, undo.Header().Limits, sim.Over(sim.New(there)), func(engine.Event) {})
	return plan, undo.Run(t.Context(), engine.NodeInfo{Name: "n"}, pass)
}

// withRoute is a lab's node that is machine and holds what the run left.
func withRoute(machine string) resource.State {
	s := sim.LabNode("n", 1)
	f := s[resource.FactsKey].(resource.Facts)
	f.Machine = machine
	s[f.Key()] = f
	r := someRoute("10.20.0.0/16", "10.98.0.1")
	s[r.Key()] = r
	return s
}

func TestUndoOfAnotherMachine(t *testing.T) {
	for _, c := range []struct {
		was, is string
		force   []string
		refused bool
	}{
		{was: "a", is: "a"},
		{was: "a", is: "b", refused: true},
		{was: "a", is: "b", force: []string{"n"}},
		{was: "", is: "b"}, // nothing tells them apart
		{was: "a", is: ""},
	} {
		plan, err := undoOn(t, withRoute(c.is), "route.add", c.was, c.force...)
		var e *engine.Error
		if refused := errors.As(err, &e) && e.Code == engine.Differs; refused != c.refused || !refused && (err != nil || len(plan.Changes()) != 1) {
			t.Errorf("%+v: %v, %d changes", c, err, len(plan.Changes()))
		}
	}
}

// An undo of an undo does again what that took back, whatever it is the undo of.
func TestNameOfUndo(t *testing.T) {
	for op, want := range map[string]string{
		"route.add 10.20.0.0/16":          "put back route.add 10.20.0.0/16",
		"put back route.add 10.20.0.0/16": "do again route.add 10.20.0.0/16",
		"do again route.add 10.20.0.0/16": "put back route.add 10.20.0.0/16",
	} {
		plan, err := undoOn(t, withRoute(""), op, "")
		if err != nil {
			t.Fatal(err)
		}
		if s := plan.Steps[0]; s.Op+" "+s.Object != want {
			t.Errorf("the undo of %q is %q, want %q", op, s.Op+" "+s.Object, want)
		}
	}
}

// What a run was allowed, its undo is, too: also more changes than a minute has by default.
func TestUndoOfManyChanges(t *testing.T) {
	const many = 700
	there := sim.LabNode("n", 1)
	var entries []engine.Entry
	for i := range many {
		r := someRoute(fmt.Sprintf("10.20.%d.%d/32", i>>8, i&255), "10.98.0.1")
		there[r.Key()] = r
		edit := engine.Edit{Query: resource.Query{{Kind: resource.KindRoute, Dst: r.Dst}}, Before: resource.State{}, After: resource.Of(r)}
		entries = append(entries, engine.Entry{Node: "n", Kind: "intent", Nth: i, Op: "route.add " + r.Dst.String(), Edit: &edit})
	}
	undo := engine.NewUndo(engine.RunRecord{ID: "old"}, entries, nil)
	plan := &engine.NodePlan{Node: "n"}
	pass := engine.NewPrediction(plan, undo.Header().Limits, sim.Over(sim.New(there)), func(engine.Event) {})
	if err := undo.Run(t.Context(), engine.NodeInfo{Name: "n"}, pass); err != nil || len(plan.Changes()) != many {
		t.Errorf("%d of %d changes: %v", len(plan.Changes()), many, err)
	}
}
