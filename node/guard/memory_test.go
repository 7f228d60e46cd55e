//go:build linux

package guard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// fakeKernel is a kernel in memory, in which nothing ever needs to be restored.
type fakeKernel struct{ *sim.Node }

func (k fakeKernel) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	return engine.ApplyAll(ctx, k.Node, edits)
}

func (k fakeKernel) Snapshot(ctx context.Context, _ int) (resource.State, bool, error) {
	s, err := k.Read(ctx, nodetest.Everything)
	return s, true, err
}

func (fakeKernel) Capture(context.Context, string) ([]byte, error) { return []byte("{}"), nil }
func (fakeKernel) Restore(context.Context, []byte) error           { return nil }

// clock is a node's time, as a test sets it.
type clock moment

func (c *clock) pass(d time.Duration) { c.Since += d; c.Wall = c.Wall.Add(d) }

// remembering is a node that keeps its memory in dir and goes by c.
func remembering(dir string, c *clock) *Node {
	n := Over(fakeKernel{sim.New(nodetest.Usual.State)}, dir)
	n.folder.now = func() moment { return moment(*c) }
	n.start = func(string) error { return nil }
	return n
}

func newClock() *clock {
	return &clock{Boot: "boot-1", Since: time.Hour, Wall: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
}

// down is the edit of a run that takes eth1 down; what it does beside being remembered does not matter here.
func down(run string) engine.Edit {
	return engine.Edit{Disrupts: "link eth1", Verb: "down", Run: run, By: "ann@ops", ID: run + "/0", Want: resource.Of(route(1))}
}

func do(t *testing.T, n *Node, e engine.Edit) {
	t.Helper()
	defer n.Release()
	if _, err := n.Apply(t.Context(), e); err != nil {
		t.Error(err)
	}
}

func refuse(t *testing.T, n *Node, e engine.Edit, code engine.Code, words string) {
	t.Helper()
	_, err := n.Apply(t.Context(), e)
	if err == nil || engine.AsError(err).Code != code || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want %q", err, words)
	}
}

func remembers(t *testing.T, n *Node) []resource.Memory {
	t.Helper()
	s, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindMemory}})
	if err != nil {
		t.Fatal(err)
	}
	return resource.All[resource.Memory](s)
}

func TestMemoryOutlivesAgents(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	do(t, remembering(dir, c), down("r1"))
	c.pass(3 * time.Minute)
	n := remembering(dir, c)
	want := resource.Memory{ID: "r1/0", Of: "link eth1", Verb: "down", Run: "r1", By: "ann@ops", Age: 3 * time.Minute, Ended: true}
	if ms := remembers(t, n); len(ms) != 1 || ms[0] != want {
		t.Errorf("it remembers %v", ms)
	}
	whole, _, err := n.Snapshot(t.Context(), 300)
	if m, ok := resource.Get[resource.Memory](whole, "memory link eth1"); err != nil || !ok || m != want {
		t.Errorf("a snapshot has %v: %v", m, err)
	}
	refuse(t, n, down("r2"), engine.LimitHit, "link eth1 had a down 3m0s ago, of run r1 by ann@ops")
	other := down("r2")
	other.Disrupts = "link eth0"
	do(t, n, other)
	repeat := down("r3")
	repeat.Repeat = true
	do(t, n, repeat)
	c.pass(engine.DefaultRepeatWindow)
	if ms := remembers(t, n); len(ms) != 2 || ms[1].Run != "r3" || ms[1].Age < engine.DefaultRepeatWindow {
		t.Errorf("after the window it remembers %v", ms)
	}
	do(t, n, down("r4")) // which does not refuse it any more
}

// An undo is let, and what it took down no other undo takes down again.
func TestMemoryAndUndo(t *testing.T) {
	n := remembering(t.TempDir(), newClock())
	undo := func(run string) engine.Edit {
		e := down(run)
		e.Undo = true
		return e
	}
	do(t, n, down("r1"))
	do(t, n, undo("r2"))
	refuse(t, n, undo("r3"), engine.LimitHit, "of run r2")
	refuse(t, n, down("r4"), engine.LimitHit, "of run r2")
}

// A clock that is set moves nothing within a boot; across boots there is only it.
func TestMemoryAndClocks(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(c *clock)
		age  time.Duration
	}{
		{"set forward", func(c *clock) { c.Wall = c.Wall.Add(24 * time.Hour) }, 0},
		{"set back", func(c *clock) { c.pass(time.Minute); c.Wall = c.Wall.Add(-24 * time.Hour) }, time.Minute},
		{"another boot", func(c *clock) { c.pass(2 * time.Minute); c.Boot, c.Since = "boot-2", 5*time.Second }, 2 * time.Minute},
		{"another boot, its clock behind", func(c *clock) { c.Wall = c.Wall.Add(-time.Hour); c.Boot, c.Since = "boot-2", 5*time.Second }, 0},
		{"another boot, long after", func(c *clock) { c.Wall = c.Wall.Add(time.Hour); c.Boot, c.Since = "boot-2", 5*time.Second }, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, now := t.TempDir(), newClock()
			do(t, remembering(dir, now), down("r1"))
			c.then(now)
			n := remembering(dir, now)
			ms := remembers(t, n)
			if len(ms) != 1 || ms[0].Age != c.age {
				t.Errorf("it remembers %v, want an age of %s", ms, c.age)
			}
			if c.age >= engine.DefaultRepeatWindow {
				do(t, n, down("r2"))
				return
			}
			refuse(t, n, down("r2"), engine.LimitHit, "of run r1")
		})
	}
}

// A change is begun once, however often it is asked for.
func TestChangeIsBegunOnce(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	n := remembering(dir, c)
	do(t, n, down("r1"))
	c.pass(time.Hour)
	again := down("r1")
	again.Repeat = true
	refuse(t, n, again, engine.LimitHit, "change r1/0 was begun 1h0m0s ago, and is never begun twice: it was made")

	drifted := down("r2") // it was not begun, so it may be asked for again
	drifted.Query, drifted.Before = resource.Query{{Kind: resource.KindRoute, Dst: route(1).Dst}}, resource.State{}
	if _, err := n.Apply(t.Context(), drifted); err == nil {
		t.Error("no drift")
	}
	do(t, n, down("r2"))

	cut := down("r3") // the agent died in the middle
	if err := n.begin(func() engine.Edit { cut.Disrupts = "link eth0"; return cut }()); err != nil {
		t.Fatal(err)
	}
	cut.Repeat = true
	refuse(t, n, cut, engine.LimitHit, "it was not seen to its end")
}

func TestMemoryIsBounded(t *testing.T) {
	c := newClock()
	n := remembering(t.TempDir(), c)
	old := make([]entry, keepEntries+50)
	for i := range old {
		old[i] = entry{ID: fmt.Sprint("old", i), Of: "link eth1", At: moment(*c)}
	}
	if err := n.folder.save(memoryName, old); err != nil {
		t.Fatal(err)
	}
	c.pass(engine.DefaultRepeatWindow)
	do(t, n, down("r1"))
	all, err := n.folder.remembered()
	if err != nil || len(all) != keepEntries || all[0].ID != "old51" || all[keepEntries-1].Run != "r1" {
		t.Errorf("%d entries are kept, want the last %d: %v", len(all), keepEntries, err)
	}
}

// A memory that cannot be read refuses what disrupts, and nothing else.
func TestMemoryIsDamaged(t *testing.T) {
	n := remembering(t.TempDir(), newClock())
	do(t, n, down("r1"))
	if err := os.WriteFile(n.folder.path(memoryName), []byte(`[{"of":"link`), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, n, down("r2"), engine.Unreachable, memoryName+" is damaged")
	ms := remembers(t, n)
	if len(ms) != 1 || !strings.Contains(ms[0].Broken, "is damaged") {
		t.Fatalf("it says %v", ms)
	}
	if err := engine.RefuseRepeat(ms[0], down("r2")); err == nil || err.Code != engine.Unreachable {
		t.Errorf("a dry run is told %v", err)
	}
	do(t, n, engine.Edit{Want: resource.Of(route(2))})
	undo := down("r3")
	undo.Undo = true
	do(t, n, undo)
	if b, _ := os.ReadFile(n.folder.path(memoryName)); string(b) != `[{"of":"link` {
		t.Errorf("what was damaged was written over: %s", b)
	}
}

// picky is a kernel that refuses one resource, and with it all that is wanted beside it.
type picky struct {
	fakeKernel
	refuses resource.Key
}

func (k picky) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	if _, wanted := e.Want[k.refuses]; wanted {
		return nil, &engine.NodeError{Errno: "EINVAL", Words: "Nexthop has invalid gateway"}
	}
	return k.fakeKernel.Apply(ctx, e)
}

// What cannot be put back keeps nothing else from being put back, and is said.
func TestPutBackPiecemeal(t *testing.T) {
	n := remembering(t.TempDir(), newClock())
	gone := engine.Edit{Want: resource.State{}, Before: resource.State{}, After: resource.State{}}
	for i := range 3 {
		r := route(i)
		do(t, n, engine.Edit{Want: resource.Of(r)})
		gone.Want[r.Key()], gone.Before[r.Key()] = nil, r
		gone.Query = append(gone.Query, resource.Selector{Kind: resource.KindRoute, Dst: r.Dst})
	}
	do(t, n, guarded(gone, "x", time.Minute))
	n.kernel = picky{n.kernel.(fakeKernel), route(1).Key()}
	r, err := n.folder.pending()
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	if err := n.putBack(t.Context(), r, "not confirmed"); err != nil {
		t.Fatal(err)
	}
	s, _ := n.Read(t.Context(), gone.Query)
	if len(s) != 2 || s[route(1).Key()] != nil {
		t.Errorf("the node holds %v", s.Keys())
	}
	if f := r.Ended.Failed; r.Ended.PutBack != 1 || len(f) != 1 || f[0] != "route 10.20.1.0/24 table 254 metric 0: Nexthop has invalid gateway" {
		t.Errorf("it says %s", r.Ended)
	}
}

// A record that cannot be read refuses what would need another.
func TestRecordIsDamaged(t *testing.T) {
	n := remembering(t.TempDir(), newClock())
	if err := os.WriteFile(n.folder.path(recordPrefix+"x.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, n, down("r1"), engine.Unreachable, "is damaged")
	do(t, n, engine.Edit{Want: resource.Of(route(2))})
}

// A user's folder is the node's own even where many nodes share a home; so is that of a namespace.
func TestFolder(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "")
	want := "/var/lib/runbook"
	if os.Geteuid() != 0 {
		want = filepath.Join(home, ".local/state/runbook", host)
	}
	if own, first := namespace("net"); !first {
		want = filepath.Join(want, "net-"+strings.Trim(own, "net:[]"))
	}
	if got := Folder(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
