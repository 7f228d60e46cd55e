package rollout_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
)

// kept is a journal that keeps its entries.
type kept struct {
	nowhere
	mu      sync.Mutex
	entries []engine.Entry
}

func (k *kept) Append(_ context.Context, e ...engine.Entry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entries = append(k.entries, e...)
	return nil
}

// takenUp is a run of five nodes whose record was cut: node-1 failed, node-2 was in
// hand, with its route, and nothing was begun on the others.
func takenUp(t *testing.T, maxFailures int) (*fleet, *rollout.Run) {
	t.Helper()
	f, infos := newFleet(5)
	p := addRoute([]string{"1", "100%"}, maxFailures)
	r, _ := newRun(f, infos[1:2], p)
	record := &kept{}
	r.Journal = record
	if _, err := r.Apply(t.Context(), predicted(t, r)); err != nil {
		t.Fatal(err)
	}
	record.entries = slices.DeleteFunc(record.entries, func(e engine.Entry) bool { return e.Kind == engine.EntryDone || e.Kind == engine.EntryEnd })
	record.entries = append(record.entries, engine.Entry{Run: "r", Node: "node-1", Kind: engine.EntryEnd, Text: string(engine.NodeFailed)})
	r, _ = newRun(f, infos, p)
	past, err := engine.PastOf(record.entries)
	if err != nil {
		t.Fatal(err)
	}
	r.Journal, r.Past = record, past
	return f, r
}

// What was in hand is finished first, and then what is left; the run has failed on a node all the same.
func TestTakeUp(t *testing.T) {
	f, r := takenUp(t, 1)
	if err := r.TakeUp(t.Context()); err != nil || !r.Idle() || r.Before()["node-2"] != engine.NodeDone {
		t.Fatalf("%v, %v", err, r.Before())
	}
	plans := predicted(t, r)
	if len(plans) != 3 || r.Refusal(plans) != nil {
		t.Fatalf("%d plans, %v", len(plans), r.Refusal(plans))
	}
	states, err := r.Apply(t.Context(), plans)
	if err == nil || err.Code != engine.Unreachable || len(states) != 5 || states["node-1"] != engine.NodeFailed || states["node-5"] != engine.NodeDone {
		t.Errorf("%v, %v", err, states)
	}
	if got := f.changed(t); len(got) != 4 {
		t.Errorf("changed %v", got)
	}
}

// Where more nodes have failed than may, what was in hand is put back and nothing else is done.
func TestTakeUpWithTooManyFailures(t *testing.T) {
	f, r := takenUp(t, 0)
	if e := r.Refusal(nil); e == nil || e.Code != engine.GateFailed || r.Idle() {
		t.Fatalf("%v", e)
	}
	if err := r.TakeUp(t.Context()); err == nil || err.Code != engine.GateFailed || !r.Idle() || r.Before()["node-2"] != engine.NodeFailed {
		t.Errorf("%v, %v", err, r.Before())
	}
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("changed %v", got)
	}
}

// A run that is stopped before it has finished what was in hand leaves that in hand.
func TestTakeUpThatIsStopped(t *testing.T) {
	f, r := takenUp(t, 1)
	stop := make(chan struct{})
	close(stop)
	r.Stop = stop
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.TakeUp(ctx); err == nil || err.Code != engine.Interrupted {
		t.Errorf("%v", err)
	}
	if got := f.changed(t); r.Idle() || len(got) != 1 {
		t.Errorf("idle: %v, changed %v", r.Idle(), got)
	}
}

// A run that is taken up again is charged with all of a node that was in hand, not only
// with what was begun of it before: or a run that is killed often may do more than its limits say.
func TestTakeUpIsChargedInFull(t *testing.T) {
	f, infos := newFleet(1)
	p := addRoute([]string{"100%"}, 0)
	second := builtins.RouteAdd{Dst: netip.MustParsePrefix("10.21.0.0/16"), Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}
	one := p.run
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		if err := one(ctx, node, h); err != nil {
			return err
		}
		if _, err := h.Do(ctx, engine.Call{Name: "link.list", Args: []byte("{}"), Op: builtins.LinkList{}, Pos: "x.star:2:1"}); err != nil { // sends the first
			return err
		}
		args, _ := json.Marshal(second)
		_, err := h.Do(ctx, engine.Call{Name: "route.add", Args: args, Op: second, Pos: "x.star:3:1"})
		return err
	}
	r, _ := newRun(f, infos, p)
	record := &kept{}
	r.Journal = record
	plans := predicted(t, r)
	if _, err := r.Apply(t.Context(), plans); err != nil {
		t.Fatal(err)
	}
	cut := slices.IndexFunc(record.entries, func(e engine.Entry) bool { return e.Kind == engine.EntryDone }) + 1
	f, infos = newFleet(1)
	if _, err := f.nodes["node-1"].Apply(t.Context(), plans[0].Changes()[0].Edit); err != nil {
		t.Fatal(err)
	}
	r, _ = newRun(f, infos, p)
	r.Journal = &kept{}
	var err error
	if r.Past, err = engine.PastOf(record.entries[:cut]); err != nil {
		t.Fatal(err)
	}
	if err := r.TakeUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	predicted(t, r)
	if got := r.Used()[engine.LimitChanges]; got != 2 {
		t.Errorf("charged with %d changes, want 2", got)
	}
}

// What apply may do to a node stays what was planned, also where the node was put back when the run was
// interrupted, or did not answer; what a run predicted by itself is predicted anew.
func TestWhatWasPlannedStays(t *testing.T) {
	plan := func(pos string) engine.Entry {
		data, _ := json.Marshal(engine.NodePlan{Node: "a", Steps: []engine.PlannedChange{{Pos: pos}}})
		return engine.Entry{Node: "a", Kind: engine.EntryPlan, Data: data}
	}
	kind := func(k string) engine.Entry { return engine.Entry{Node: "a", Kind: k} }
	end := engine.Entry{Node: "a", Kind: engine.EntryEnd, Text: string(engine.NodeUntried)}
	begun := []engine.Entry{plan("now"), kind(engine.EntryIntent), kind(engine.EntryDone), kind(engine.EntryUndo), kind(engine.EntryUndone), end}
	for _, c := range []struct {
		name    string
		entries []engine.Entry
		want    string
	}{
		{"applied, and put back", slices.Concat([]engine.Entry{plan("saved")}, begun), "saved"},
		{"and again", slices.Concat([]engine.Entry{plan("saved")}, begun, begun), "saved"},
		{"applied, and not reached", []engine.Entry{plan("saved"), end}, "saved"},
		{"run, and put back", begun, ""},
		{"run, and not reached", []engine.Entry{end}, ""},
	} {
		past, err := engine.PastOf(c.entries)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p := past["a"]; p.Planned() {
			got = p.Plan.Steps[0].Pos
		}
		if got != c.want || past["a"].InHand() || past["a"].Ended() {
			t.Errorf("%s: bound to %q, want %q; %+v", c.name, got, c.want, past["a"])
		}
	}
}

// The waves of a run that was taken up are those that it had: what is left is not split anew.
func TestTakeUpKeepsWaves(t *testing.T) {
	_, r := takenUp(t, 1)
	if err := r.TakeUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, w := range r.ByWave(predicted(t, r)) {
		got = append(got, len(w))
	}
	if !slices.Equal(got, []int{0, 3}) {
		t.Errorf("waves of %v nodes, want none in the first and 3 in the second", got)
	}
}
