package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
)

// asking is a run of n nodes in one wave whose operator answers each question with answer.
func asking(t *testing.T, f *fleet, infos []engine.NodeInfo, p engine.Program, answer func(r *rollout.Run, q rollout.Question) rollout.Answer) (*rollout.Run, *[]engine.Event, *kept) {
	t.Helper()
	r, events := newRun(f, infos, p)
	journal := &kept{}
	r.Journal, r.Controls = journal, &rollout.Controls{}
	r.Confirm = func(_ context.Context, q rollout.Question) (rollout.Answer, error) { return answer(r, q), nil }
	return r, events, journal
}

// One answer for the rest of a wave is for those nodes to which the same is done as was shown.
func TestOneAnswerForThoseThatAreAlike(t *testing.T) {
	f, infos := newFleet(7)
	p := addRoute([]string{"100%"}, 0)
	same := p.run
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		err := same(ctx, node, h)
		if err == nil && (node == "node-3" || node == "node-6") {
			op := builtins.RouteAdd{Dst: netip.MustParsePrefix("10.30.0.0/16"), Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}
			args, _ := json.Marshal(op)
			_, err = h.Do(ctx, engine.Call{Name: "route.add", Args: args, Op: op, Pos: "x.star:2:1"})
		}
		return err
	}
	var asked []string
	r, events, _ := asking(t, f, infos, p, func(_ *rollout.Run, q rollout.Question) rollout.Answer {
		asked = append(asked, fmt.Sprintf("%s %d of %d, %d alike", q.Plan.Node, q.Nth, q.Of, q.Alike))
		if q.Plan.Node == "node-1" {
			return rollout.Yes
		}
		return rollout.All
	})
	if _, err := r.Apply(t.Context(), predicted(t, r)); err != nil {
		t.Fatal(err)
	}
	want := []string{"node-1 1 of 7, 5 alike", "node-2 2 of 7, 4 alike", "node-3 6 of 7, 2 alike"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q\nwant  %q", asked, want)
	}
	if got := f.changed(t); len(got) != 7 {
		t.Errorf("changed %v", got)
	}
	var told []string
	for _, e := range *events {
		if e.Kind == engine.EventQuestion || e.Kind == engine.EventAnswer {
			told = append(told, fmt.Sprintf("%s %s %s %d", e.Kind, e.Node, e.Text, e.Nodes))
		}
	}
	if len(told) != 6 || told[4] != "question node-3 node 6 of 7 2" || told[5] != "answer node-3 all alike in this wave 0" {
		t.Errorf("told %q", told)
	}
}

// A paused run begins nothing, and its operator's time is none of its own.
func TestPause(t *testing.T) {
	f, infos := newFleet(5)
	r, _, _ := asking(t, f, infos, addRoute([]string{"1", "100%"}, 0), nil)
	r.Confirm = nil
	plans := predicted(t, r)
	r.Controls.Pause(true)
	kinds := make(chan engine.EventKind, 100)
	r.Emit = func(e engine.Event) { kinds <- e.Kind }
	ended := make(chan *engine.Error)
	before, began := r.Used()[engine.LimitDuration], time.Now()
	go func() { _, err := r.Apply(t.Context(), plans); ended <- err }()
	if k := <-kinds; k != engine.EventPaused {
		t.Fatalf("it begins with %s", k)
	}
	time.Sleep(300 * time.Millisecond)
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("changed %v while it is paused", got)
	}
	r.Controls.Pause(false)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := f.changed(t); len(got) != 5 {
		t.Errorf("changed %v", got)
	}
	if k := <-kinds; k != engine.EventUnpaused {
		t.Errorf("it goes on with %s", k)
	}
	if used, took := time.Duration(r.Used()[engine.LimitDuration]-before), time.Since(began); used > took-250*time.Millisecond {
		t.Errorf("it has used %s of the %s that went by, 300ms of them paused", used, took)
	}
}

// A paused run can be stopped, and is paused no more then.
func TestPauseThatIsStopped(t *testing.T) {
	f, infos := newFleet(2)
	stop := make(chan struct{})
	r, events, _ := asking(t, f, infos, addRoute([]string{"100%"}, 0), func(r *rollout.Run, _ rollout.Question) rollout.Answer {
		r.Controls.Pause(true)
		time.AfterFunc(20*time.Millisecond, func() { close(stop) })
		return rollout.Yes
	})
	r.Stop = stop
	if _, err := r.Apply(t.Context(), predicted(t, r)); err == nil || err.Code != engine.Interrupted {
		t.Errorf("%v", err)
	}
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("changed %v", got)
	}
	var told []engine.EventKind
	for _, e := range *events {
		if e.Kind == engine.EventPaused || e.Kind == engine.EventUnpaused {
			told = append(told, e.Kind)
		}
	}
	if want := []engine.EventKind{engine.EventPaused, engine.EventUnpaused}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// What was done to a node is taken back when the operator says so, also right before the run ends; nothing else is.
func TestOperatorTakesBack(t *testing.T) {
	f, infos := newFleet(4)
	r, events, journal := asking(t, f, infos, addRoute([]string{"100%"}, 0), func(r *rollout.Run, q rollout.Question) rollout.Answer {
		if q.Plan.Node == "node-3" {
			for n, can := range map[string]bool{"node-1": true, "node-3": false, "node-4": false, "nobody": false} {
				if r.Controls.Undo(n) != can {
					t.Errorf("can be taken back: %s, %v", n, !can)
				}
			}
		}
		return rollout.Yes
	})
	states, err := r.Apply(t.Context(), predicted(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.changed(t); !slices.Equal(got, []string{"node-2", "node-3", "node-4"}) || states["node-1"] != engine.NodeUndone {
		t.Errorf("changed %v, %v", got, states)
	}
	var of []string
	for _, e := range *events {
		if e.Node == "node-1" && (e.Kind == engine.EventNode || e.Kind == engine.EventPutBack) {
			of = append(of, strings.TrimSpace(string(e.Kind)+" "+string(e.State)))
		}
	}
	if want := []string{"node applying", "node done", "node undoing", "put-back", "node undone"}; !slices.Equal(of, want) {
		t.Errorf("told %q, want %q", of, want)
	}
	past, perr := engine.PastOf(journal.entries)
	if perr != nil || past["node-1"].State != engine.NodeUndone || !past["node-1"].Ended() {
		t.Errorf("the record says %v, %v", past["node-1"], perr)
	}
	if r.Controls.Undo("node-2") {
		t.Error("a run that is over takes an undo")
	}
}

// A controller that is killed while a node is taken back at the operator's word leaves
// it in hand: the run that is taken up again puts it back.
func TestTakingBackThatWasCut(t *testing.T) {
	f, infos := newFleet(1)
	p := addRoute([]string{"100%"}, 1)
	r, _, journal := asking(t, f, infos, p, func(*rollout.Run, rollout.Question) rollout.Answer { return rollout.Yes })
	if _, err := r.Apply(t.Context(), predicted(t, r)); err != nil {
		t.Fatal(err)
	}
	entries := append(journal.entries, engine.Entry{Run: "r", Node: "node-1", Kind: engine.EntryUndo})
	past, err := engine.PastOf(entries)
	if err != nil || !past["node-1"].InHand() {
		t.Fatalf("%v, %v", past["node-1"], err)
	}
	again, _ := newRun(f, infos, p)
	again.Past = past
	again.TakeUp(t.Context())
	if got := f.changed(t); len(got) != 0 || !again.Idle() {
		t.Errorf("changed %v, idle %v", got, again.Idle())
	}
}

// What a hook observes is told, and charged as what it prints.
func TestObserve(t *testing.T) {
	f, infos := newFleet(1)
	p := addRoute([]string{"100%"}, 0)
	p.header.Hooks = map[string]string{engine.HookGate: "x.star:1:1"}
	r, events := newRun(f, infos, hooked{p, func(_ context.Context, _ string, _ engine.FleetInfo, h engine.Host) error {
		for i := range 1 << 20 {
			if err := h.(engine.Observer).Observe("x.star:2:1", "free", float64(i)); err != nil {
				return err
			}
		}
		return nil
	}})
	predicted(t, r)
	e := r.Watch(t.Context())
	if e == nil || e.Code != engine.LimitHit || !strings.Contains(e.Error(), "x.star:2:1") || !strings.Contains(e.Cause, "output") {
		t.Errorf("%v", e)
	}
	for _, e := range *events {
		if e.Kind == engine.EventValue && (e.Op != engine.HookGate || e.Text != "free" || e.Value == nil) {
			t.Fatalf("told %+v", e)
		}
	}
}
