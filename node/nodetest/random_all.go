package nodetest

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// Counts is what became of random sequences of operations.
type Counts struct {
	Sequences  int
	Differs    bool             // a sequence did; the counts are of what was tried until it was found and made smaller
	Operations int              // made and compared, or refused by the kernel as predicted
	Undone     int              // taken back, newest first, and each compared
	By         map[string]*fate // by what was drawn
}

// fate is what became of the operations of one kind.
type fate struct {
	changed, idle int // made: the node is another than before, or was so already
	refused       int // by the kernel, as predicted
	unpredicted   int // not modelled: nothing was done
}

func (f fate) String() string {
	all := max(1, f.changed+f.idle+f.refused+f.unpredicted)
	share := func(n int) string { return fmt.Sprintf("%d (%.1f%%)", n, 100*float64(n)/float64(all)) }
	return fmt.Sprintf("%s changed the node, %s found it so, %s the kernel refused as predicted, %s are not modelled",
		share(f.changed), share(f.idle), share(f.refused), share(f.unpredicted))
}

// String is the sums, and a line for each kind of operation.
func (c *Counts) String() string {
	var all fate
	var lines strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(c.By)) {
		f := c.By[kind]
		all = fate{all.changed + f.changed, all.idle + f.idle, all.refused + f.refused, all.unpredicted + f.unpredicted}
		fmt.Fprintf(&lines, "\n%-24s %s", kind, f)
	}
	return fmt.Sprintf("%d sequences, %d operations, %d undone, differences %s\n%-24s %s%s",
		c.Sequences, c.Operations, c.Undone, map[bool]string{false: "0", true: "found"}[c.Differs], "all that were drawn", all, lines.String())
}

// world is a node that sequences are made on, and what it holds before each of them.
type world struct {
	node  engine.Node
	clean resource.State
}

// sequences draws sequences of operations, makes and counts them.
type sequences struct {
	Counts
	wanted int  // operations
	undo   bool // all are taken back at the end of each sequence
	rules  bool // the nodes get policy rules: from the first on, their tables main and local are two
}

// RandomAll draws starting states and sequences of operations of every kind: routes,
// links that go down and up, restart, get another MTU, addresses, rules, neighbours, on nodes with
// nexthop objects. Each is predicted and then made on a node of f, and must end in the
// same state of the whole node or in the same refusal. With undo, all are taken back at the end, and
// the node must each time be as it was before. It goes on until it has made as many operations as wanted.
//
// The sequences in testdata/rapid, which once showed a difference, come first.
func RandomAll(t *testing.T, f Factory, operations int, undo bool) *Counts {
	s := &sequences{Counts: Counts{By: map[string]*fate{}}, wanted: operations, undo: undo}
	seed := flag.Lookup("rapid.seed")
	first, err := strconv.ParseUint(seed.Value.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	t.Cleanup(func() { seed.Value.Set("0") }) //nolint:errcheck // it is a number
	for round := uint64(0); s.Operations < s.wanted; round++ {
		if err := seed.Value.Set(strconv.FormatUint(first+round<<32, 10)); err != nil {
			t.Fatal(err)
		}
		for _, s.rules = range []bool{false, true} {
			name := map[bool]string{false: "tables as they come", true: "rules"}[s.rules]
			if round > 0 {
				name += fmt.Sprint(" ", round)
			}
			if !t.Run(name, func(t *testing.T) { s.round(t, f) }) {
				return &s.Counts
			}
		}
	}
	return &s.Counts
}

// round makes a hundred sequences on fresh nodes.
func (s *sequences) round(t *testing.T, f Factory) {
	var worlds []world
	for _, start := range []Start{Usual, NoIPv6, Promoting, keeping, linkLocal} {
		n := open(t, f, start)
		worlds = append(worlds, world{n, read(t, n, Everything)})
	}
	rapid.Check(t, func(rt *rapid.T) {
		if s.Operations >= s.wanted && !s.Differs {
			return
		}
		differs := s.Differs
		s.Differs = true // unless it comes to its end
		s.sequence(t, rt, worlds[rapid.IntRange(0, len(worlds)-1).Draw(rt, "start")])
		s.Differs = differs
	})
}

// doneEdit is an operation that was made, and what the whole node held before.
type doneEdit struct {
	edit   engine.Edit
	before resource.State
}

// sequence draws what there is in w besides, and makes random operations.
func (s *sequences) sequence(t *testing.T, rt *rapid.T, w world) {
	settle(t, rt, w.node, w.clean, "back to the start")
	for i, more := range besides {
		if rapid.IntRange(0, 2).Draw(rt, "with more") < 2 {
			continue
		}
		for _, want := range more {
			if _, err := w.node.Apply(t.Context(), engine.Edit{Want: want}); err != nil {
				rt.Fatalf("the starting state, %d: %v", i, err)
			}
		}
	}
	s.Sequences++
	d := drawing{rt: rt, rules: s.rules}
	d.now = read(t, w.node, Everything)
	var done []doneEdit
	var m *sim.Node // of the whole sequence, as in a dry run
	if rapid.Bool().Draw(rt, "predicted together") {
		m = sim.Over(w.node)
	}
	for range rapid.IntRange(1, 20).Draw(rt, "operations") {
		kind, e := d.operation()
		before := d.now
		model := m
		if model == nil {
			model = sim.Over(w.node)
		}
		if s.operation(t, rt, w.node, model, kind, &e) {
			d.now = read(t, w.node, Everything)
			done = append(done, doneEdit{e, before})
		}
	}
	if s.undo {
		s.takeBack(t, rt, w.node, done)
	}
}

// operation predicts e on m, makes it on n and compares. It reports whether e was made.
func (s *sequences) operation(t *testing.T, rt *rapid.T, n engine.Node, m *sim.Node, kind string, e *engine.Edit) bool {
	f := s.By[kind]
	if f == nil {
		f = &fate{}
		s.By[kind] = f
	}
	e.Settle = engine.Duration(time.Second)
	expected := m.Predict(t.Context(), e)
	if errors.Is(expected, engine.ErrUnpredictable) {
		f.unpredicted++
		return false
	}
	rt.Logf("%s: %v restart %q: %v\n%s", kind, e.Want, e.Restart, expected, e.Diff())
	e.Settle = min(e.Settle, engine.Duration(3*time.Second))
	_, err := n.Apply(t.Context(), *e)
	var p, a *engine.NodeError
	if errors.As(expected, &p) != errors.As(err, &a) || p != nil && *p != *a || p == nil && err != nil {
		rt.Fatalf("%s: %v restart %q\npredicted: %v\nthe node:  %v", kind, e.Want, e.Restart, expected, err)
	}
	s.Operations++
	switch {
	case p != nil:
		f.refused++
	case e.Happens():
		f.changed++
	default:
		f.idle++
	}
	foreseen, err := m.Read(t.Context(), Everything)
	if err != nil {
		rt.Fatal(err)
	}
	if d := resource.Compare(foreseen, await(t, n, foreseen)); len(d) > 0 {
		rt.Fatalf("%s: %v restart %q\nfrom the model to the node:\n%s", kind, e.Want, e.Restart, d)
	}
	return p == nil && e.Happens()
}

// settle makes the node what want says, by hand.
func settle(t *testing.T, rt *rapid.T, n engine.Node, want resource.State, what string) {
	for range 3 { // what goes with a link comes back only after it
		back := resource.Compare(read(t, n, Everything), want).After()
		if len(back) == 0 {
			return
		}
		if _, err := n.Apply(t.Context(), engine.Edit{Want: back, After: want, Query: Everything, Settle: engine.Duration(time.Second)}); err != nil {
			rt.Fatalf("%s: %v", what, err)
		}
	}
	if d := resource.Compare(read(t, n, Everything), want); len(d) > 0 {
		rt.Fatalf("%s: %s", what, d)
	}
}

// await reads everything until it is as expected, for a moment.
func await(t *testing.T, n engine.Reader, expected resource.State) resource.State {
	for end := time.Now().Add(time.Second); ; time.Sleep(2 * time.Millisecond) {
		s := read(t, n, Everything)
		if resource.Equal(expected, s) || time.Now().After(end) {
			return s
		}
	}
}
