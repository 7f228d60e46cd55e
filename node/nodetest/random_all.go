package nodetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// Counts is what became of random sequences of operations.
type Counts struct {
	Sequences   int
	Operations  int // made and compared; or refused by the kernel, as predicted
	Refused     int // of these
	Unpredicted int // drawn, and not modelled: nothing was done
	Undone      int // taken back, newest first, and compared at the end of each sequence
}

func (c Counts) String() string {
	return fmt.Sprintf("%d sequences, %d operations (%d refused by the kernel as predicted), %d undone, %d more not modelled; differences 0",
		c.Sequences, c.Operations, c.Refused, c.Undone, c.Unpredicted)
}

// RandomAll draws starting states and sequences of operations of every kind: routes,
// links that go down and up, restart, get another MTU, addresses, rules, neighbours, on nodes with
// nexthop objects. Each is predicted and then made on a node of f, and must end in the
// same state of the whole node or in the same refusal. With undo, all are taken back at the end, and
// the node must be as it was at the start. It goes on until it has made as many operations as wanted.
func RandomAll(t *testing.T, f Factory, operations int, undo bool) Counts {
	var c Counts
	for c.Operations < operations && !t.Failed() {
		for _, s := range []Start{Usual, NoIPv6, Promoting} {
			n := open(t, f, s)
			clean := read(t, n, Everything)
			rapid.Check(t, func(rt *rapid.T) { c.sequence(t, rt, n, clean, undo) })
			if t.Failed() {
				return c
			}
		}
	}
	return c
}

// sequence starts from clean, draws what is there besides, and makes random operations.
func (c *Counts) sequence(t *testing.T, rt *rapid.T, n engine.Node, clean resource.State, undo bool) {
	settle(t, rt, n, clean, "back to the start")
	if rapid.IntRange(0, 2).Draw(rt, "with nexthop objects") == 0 {
		for _, want := range nexthopStart {
			if _, err := n.Apply(t.Context(), engine.Edit{Want: want}); err != nil {
				rt.Fatalf("the starting state: %v", err)
			}
		}
	}
	start := read(t, n, Everything)
	c.Sequences++
	var made []engine.Edit
	for range rapid.IntRange(1, 14).Draw(rt, "operations") {
		if e, done := c.operation(t, rt, n, randomOperation(rt, read(t, n, Everything))); done {
			made = append(made, e)
		}
	}
	if !undo {
		return
	}
	for i := len(made) - 1; i >= 0; i-- {
		if len(made[i].Diff()) == 0 {
			continue // a restart leaves nothing to take back
		}
		if _, err := n.Apply(t.Context(), made[i].Reverse()); err != nil {
			rt.Fatalf("take back\n%s: %v", made[i].Diff(), err)
		}
		c.Undone++
	}
	if d := resource.Compare(start, await(t, n, start)); len(d) > 0 {
		rt.Fatalf("taken back, the node is not as it was at the start:\n%s", d)
	}
}

// nexthopStart is nexthop objects, a group of two, and routes that use them.
var nexthopStart = func() []resource.State {
	object := func(id uint32, via, dev string) resource.Nexthop {
		return resource.Nexthop{ID: id, Family: 4, Hop: resource.Hop{Via: addr(via), Dev: dev}, Proto: resource.ProtoStatic}
	}
	using := func(dst string, id uint32, hops ...resource.Hop) resource.Route {
		r := typed(resource.Unicast, dst)
		r.NHID, r.Hops = id, hops
		return r
	}
	group := resource.Nexthop{ID: 13, Group: []resource.GroupMember{{ID: 11, Weight: 1}, {ID: 12, Weight: 3}}, Proto: resource.ProtoStatic}
	return []resource.State{
		resource.Of(object(11, gw4, "eth1"), object(12, "10.99.0.1", "eth0")), resource.Of(group),
		resource.Of(using("10.50.0.0/16", 11, hop(gw4, "eth1", 0)), using("10.51.0.0/16", 13, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 3))),
	}
}()

// randomOperation draws what is to be made of a node that holds now.
func randomOperation(rt *rapid.T, now resource.State) engine.Edit {
	switch rapid.IntRange(0, 11).Draw(rt, "kind") {
	case 0, 1, 2, 3:
		r := randomRoute(rt)
		if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
			return engine.Edit{Want: gone(r.Key())}
		}
		return engine.Edit{Want: all(r)}
	case 4, 5:
		return engine.Edit{Want: randomAddr(rt)}
	case 6:
		return engine.Edit{Want: all(randomRule(rt))}
	case 7:
		n := randomNeigh(rt)
		if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
			return engine.Edit{Want: gone(n.Key())}
		}
		return engine.Edit{Want: all(n)}
	case 8:
		return engine.Edit{Restart: rapid.SampledFrom([]string{"eth1", "eth1", "eth0", "eth9"}).Draw(rt, "restart")}
	default:
		return engine.Edit{Want: randomLink(rt, now)}
	}
}

// randomLink is a link of now, up, down, or with another MTU.
func randomLink(rt *rapid.T, now resource.State) resource.State {
	l, _ := resource.Get[resource.Link](now, resource.LinkKey(rapid.SampledFrom([]string{"eth1", "eth1", "eth0"}).Draw(rt, "link")))
	switch rapid.IntRange(0, 3).Draw(rt, "link operation") {
	case 0:
		l.MTU = rapid.SampledFrom([]int{1280, 1400, 1500, 9000, 65535, 65536, 1279, 68}).Draw(rt, "mtu")
	case 1:
		l.Up, l.Carrier = false, false
	default:
		if !l.Up {
			l.Up, l.Carrier = true, true
		}
	}
	return resource.Of(l)
}

// operation predicts e, makes it and compares. It reports whether e was made.
func (c *Counts) operation(t *testing.T, rt *rapid.T, n engine.Node, e engine.Edit) (engine.Edit, bool) {
	m := sim.Over(n)
	e.Settle = engine.Duration(100 * time.Millisecond) // short, for a failure is retried many times while it is made smaller
	expected := m.Predict(t.Context(), &e)
	if errors.Is(expected, engine.ErrUnpredictable) {
		c.Unpredicted++
		return e, false
	}
	e.Settle = min(e.Settle, engine.Duration(3*time.Second))
	_, err := n.Apply(t.Context(), e)
	var p, a *engine.NodeError
	if errors.As(expected, &p) != errors.As(err, &a) || p != nil && *p != *a && e.Restart == "" || p == nil && err != nil {
		rt.Fatalf("%v restart %q\npredicted: %v\nthe node:  %v", e.Want, e.Restart, expected, err)
	}
	c.Operations++
	if p != nil {
		c.Refused++
	}
	foreseen, err := m.Read(t.Context(), Everything)
	if err != nil {
		rt.Fatal(err)
	}
	if d := resource.Compare(foreseen, await(t, n, foreseen)); len(d) > 0 {
		rt.Fatalf("%v restart %q\nfrom the model to the node:\n%s", e.Want, e.Restart, d)
	}
	return e, p == nil && e.Happens()
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
	for end := time.Now().Add(500 * time.Millisecond); ; time.Sleep(2 * time.Millisecond) {
		s := read(t, n, Everything)
		if resource.Equal(expected, s) || time.Now().After(end) {
			return s
		}
	}
}
