package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is about which comes first: the journal knows of a change before
// the node is asked for it, and a change that it cannot take is not asked for.

// witness is a node that looks, whenever it is asked for a change, at what the
// journal holds by then: an intent, and the plan with the step that it numbers.
type witness struct {
	engine.Node
	journal *memory
	early   []engine.Edit // asked for without them
	asked   int
}

func (w *witness) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	for _, e := range edits {
		if len(e.Want) == 0 { // it is only compared
			continue
		}
		w.asked++
		if !w.knows(e) {
			w.early = append(w.early, e)
		}
	}
	return engine.ApplyAll(ctx, w.Node, edits)
}

func (w *witness) knows(e engine.Edit) bool {
	var plan engine.NodePlan
	for _, i := range w.journal.entries {
		switch i.Kind {
		case engine.EntryPlan:
			if json.Unmarshal(i.Data, &plan) != nil {
				return false
			}
		case engine.EntryIntent:
			if e.ID == fmt.Sprintf("%s/%d", i.Run, i.Nth) && i.Nth < len(plan.Steps) {
				known := plan.Steps[i.Nth].Edit
				return resource.Equal(known.Want, e.Want) && resource.Equal(known.Before, e.Before)
			}
		}
	}
	return false
}

func TestTheIntentIsRecordedBeforeTheChange(t *testing.T) {
	w := newWorld(t)
	first, second, look := call(t, "route.add", addRoute), call(t, "route.add", addSecond), call(t, "route.get", `{"dst":"10.20.0.0/16"}`)
	calls := []engine.Call{first, look, second, first}
	if err := w.predict(calls...); err != nil {
		t.Fatal(err)
	}
	n := &witness{Node: w.node, journal: &w.journal}
	w.node = n
	pass := w.live()
	for _, c := range calls {
		if _, err := pass.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := pass.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.asked != 2 || len(n.early) > 0 {
		t.Errorf("of %d changes, the node was asked for %d before the journal knew: %v", n.asked, len(n.early), n.early)
	}
	if k := w.journal.kinds(); k != "plan intent done look intent done end" {
		t.Errorf("journal: %s", k)
	}
}

// filling is a journal that has room for some entries.
type filling struct {
	memory
	room int
}

func (f *filling) Append(ctx context.Context, e ...engine.Entry) error {
	if f.room -= len(e); f.room < 0 {
		return engine.Internal.Errorf("the disk is full")
	}
	return f.memory.Append(ctx, e...)
}

func TestNothingIsDoneThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	n := &counting{Node: w.node}
	pass := engine.NewLive(w.plan, engine.Limits{}, n, &filling{}, "r", func(e engine.Event) { w.events = append(w.events, e) })
	_, err := w.do(pass, add)
	if code(err) != engine.Internal {
		t.Errorf("got %v, want the journal's error", err)
	}
	if n.applies != 0 || pass.Changed() != 0 || len(w.events) != 0 || w.has(routeKey) {
		t.Errorf("%d requests, %d changes that may stand, events %v", n.applies, pass.Changed(), w.events)
	}
	// No script may make light of that.
	if _, again := pass.Do(t.Context(), call(t, "route.get", `{"dst":"10.20.0.0/16"}`)); code(again) != engine.Internal {
		t.Errorf("the pass goes on: %v", again)
	}
}

// An outcome that cannot be recorded fails the change, which is then put back:
// what a later undo rests on would not know of it.
func TestAChangeWhoseOutcomeCannotBeRecordedIsPutBack(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	pass := engine.NewLive(w.plan, engine.Limits{}, w.node, &filling{room: 2}, "r", func(engine.Event) {}) // the plan and the intent
	if _, err := w.do(pass, add); code(err) != engine.Internal || pass.Changed() != 1 || !w.has(routeKey) {
		t.Errorf("got %v, want the journal's error after %d changes", err, pass.Changed())
	}
	if err := pass.PutBack(t.Context()); err != nil || w.has(routeKey) {
		t.Errorf("the route is still there: %v", err)
	}
}

// What was put back when that could not be recorded is not taken for done when the run is taken
// up again: it is made once more, and what the script saw after it is looked at anew.
func TestTakeUpOfWhatTheNodeDoesNotHoldAnyMore(t *testing.T) {
	w := newWorld(t)
	look := call(t, "route.get", `{"dst":"10.20.0.0/16"}`)
	calls := []engine.Call{call(t, "route.add", addRoute), look, call(t, "route.add", addSecond), look}
	if err := w.predict(calls...); err != nil {
		t.Fatal(err)
	}
	journal := &filling{room: 6} // until the second change is made, and the first look recorded
	tell := func(e engine.Event) { w.events = append(w.events, e) }
	finish := func(pass *engine.Pass) error {
		for _, c := range calls {
			if _, err := pass.Do(t.Context(), c); err != nil {
				return err
			}
		}
		return pass.Finish(t.Context())
	}
	pass := engine.NewLive(w.plan, engine.Limits{}, w.node, journal, "r", tell)
	if err := finish(pass); code(err) != engine.Internal || journal.kinds() != "plan intent done look intent done" {
		t.Fatalf("%v: journal: %s", err, journal.kinds())
	}
	if err := pass.PutBack(t.Context()); err != nil || w.has(routeKey) {
		t.Fatalf("the route is still there: %v", err)
	}

	past, err := engine.PastOf(journal.entries)
	if err != nil {
		t.Fatal(err)
	}
	journal.room = 100
	w.events = nil
	pass = engine.NewLive(past["node-1"].Plan, engine.Limits{}, w.node, journal, "r", tell)
	if err := pass.TakeUp(t.Context(), past["node-1"]); err != nil {
		t.Fatal(err)
	}
	if err := finish(pass); err != nil || !w.has(routeKey) {
		t.Errorf("taken up again: %v, %v", err, w.events)
	}
	if k := journal.kinds(); k != "plan intent done look intent done undone undone intent done look intent done end" {
		t.Errorf("journal: %s", k)
	}
}

// silent is a node that does not answer when it is asked for a change.
type silent struct{ engine.Node }

func (silent) ApplyAll(context.Context, []engine.Edit) ([]resource.State, error) {
	return nil, &engine.Error{Code: engine.Unreachable, Node: "web-1", Cause: "the connection is lost"}
}

// An entry has its node, and what it says does not name it again.
func TestTheRecordOfAFailureNamesItsNodeOnce(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	w.node = silent{w.node}
	pass := w.live()
	w.do(pass, add) //nolint:errcheck // it is in the record
	for _, e := range w.journal.entries {
		if e.Kind == engine.EntryFailed {
			if e.Text != "the connection is lost" {
				t.Errorf("it says %q", e.Text)
			}
			return
		}
	}
	t.Errorf("journal: %s", w.journal.kinds())
}
