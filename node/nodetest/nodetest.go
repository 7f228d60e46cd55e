// Package nodetest is the conformance suite that every implementation of
// [engine.Node] passes: reading, changing routes, being refused in the kernel's
// own words, comparing first, and taking back.
//
// Every change is first predicted by node/sim, laid over the node under test,
// and then applied to that node, which must answer what was predicted. So the
// suite does two things at once. Run on a real kernel it holds the simulator to
// that kernel; run on the simulator it holds to the same table.
package nodetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// Factory makes a fresh node that holds s. It registers with t what must be
// cleaned up; the suite closes the node.
type Factory func(t *testing.T, s Start) engine.Node

// Everything selects all that a Start describes.
var Everything = resource.Query{
	{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRoute},
	{Kind: resource.KindRule}, {Kind: resource.KindNeigh}, {Kind: resource.KindNexthop},
}

// timeout bounds one case.
const timeout = 20 * time.Second

// Run runs the suite on the nodes that f makes.
func Run(t *testing.T, f Factory) { run(t, f, func(int, bool) bool { return true }) }

// RunSome runs one case in so many of each group, for nodes that take long to
// make: what a kernel does is shown by Run, and this that every kind of edit gets there and back. The nodes are
// reached over their own loopback: what cuts that off is left out.
func RunSome(t *testing.T, f Factory, oneIn int) {
	run(t, f, func(i int, cutsLoopback bool) bool { return i%oneIn == 0 && !cutsLoopback })
}

func run(t *testing.T, f Factory, chosen func(i int, cutsLoopback bool) bool) {
	t.Run("start", func(t *testing.T) {
		for _, s := range Starts {
			t.Run(s.Name, func(t *testing.T) {
				n := open(t, f, s)
				same(t, "the starting state", s.State, read(t, n, Everything))
			})
		}
	})
	t.Run("read", func(t *testing.T) { testRead(t, f) })
	for _, group := range []struct {
		name  string
		cases []changeCase
	}{
		{"ipv4", cases4}, {"ipv4 refused", refused4}, {"ipv6", cases6}, {"ipv6 refused", refused6},
	} {
		t.Run(group.name, func(t *testing.T) {
			for i, c := range group.cases {
				if chosen(i, false) {
					t.Run(c.name, func(t *testing.T) { testChange(t, f, c) })
				}
			}
		})
	}
	for _, group := range []struct {
		name  string
		cases []editCase
	}{
		{"links", casesLink}, {"ipv4 addresses", casesAddr4}, {"ipv6 addresses", casesAddr6}, {"addresses of a link that comes up", casesAddrUp},
	} {
		t.Run(group.name, func(t *testing.T) {
			for i, c := range group.cases {
				if chosen(i, c.cutsLoopback || c.ofLoopback()) {
					t.Run(c.name, func(t *testing.T) { testEdit(t, f, c) })
				}
			}
		})
	}
	testPolicy(t, f, chosen)
	t.Run("unpredictable addresses", func(t *testing.T) {
		for _, c := range unpredictableAddrs {
			t.Run(c.name, func(t *testing.T) {
				n := open(t, f, Usual)
				if c.start != nil {
					n = open(t, f, *c.start)
				}
				for _, g := range c.given {
					apply(t, n, engine.Edit{Want: g})
				}
				unpredictableEdit(t, n, engine.Edit{Want: c.want})
			})
		}
	})
	t.Run("drift", func(t *testing.T) { testDrift(t, f) })
	t.Run("put back", func(t *testing.T) { testPutBack(t, f) })
	t.Run("together", func(t *testing.T) { testTogether(t, f) })
	t.Run("one after the other", func(t *testing.T) { testSequence(t, f) })
	t.Run("cancel", func(t *testing.T) { testCancel(t, f) })
	t.Run("unpredictable", func(t *testing.T) { testUnpredictable(t, f) })
}

// changeCase is one change of one route.
type changeCase struct {
	name  string
	start *Start           // nil: Usual
	given []resource.Route // there before
	want  resource.Route
	gone  bool            // the want is that it is not there
	holds *resource.Route // the normal form of want, where it differs
	errno string          // the kernel refuses
	words string
}

// testChange predicts c, applies it, takes it back, and compares all along.
func testChange(t *testing.T, f Factory, c changeCase) {
	start := Usual
	if c.start != nil {
		start = *c.start
	}
	n := open(t, f, start)
	for _, g := range c.given {
		apply(t, n, engine.Edit{Want: resource.Of(g)})
	}
	want := resource.Of(c.want)
	if c.gone {
		want = resource.State{c.want.Key(): nil}
	}
	before := read(t, n, Everything)
	e, err := predict(t, n, want)
	if c.errno != "" {
		refused(t, "predicted", err, c.errno, c.words)
		same(t, "the footprint after a refusal", e.Before, e.After)
		_, err := n.Apply(t.Context(), e)
		refused(t, "applied", err, c.errno, c.words)
		same(t, "the node after a refusal", before, read(t, n, Everything))
		return
	}
	if err != nil {
		t.Fatalf("predict: %v", err)
	}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	same(t, "from the prediction to the node", e.After, found)
	after := read(t, n, Everything)
	expected := before.Clone()
	expected[c.want.Key()] = c.normal()
	same(t, "from the case to the node", expected, after)

	if _, err := n.Apply(t.Context(), e.Reverse()); err != nil {
		t.Fatalf("take back: %v", err)
	}
	same(t, "the node after taking back", before, read(t, n, Everything))
}

// normal is what the node holds under the key of c after the change.
func (c changeCase) normal() resource.Resource {
	switch {
	case c.gone:
		return nil
	case c.holds != nil:
		return *c.holds
	default:
		return c.want
	}
}

// predict foresees want on a model over n, as a dry run does: an operation has
// read the route before. It checks how often the model asks the node.
func predict(t *testing.T, n engine.Node, want resource.State) (engine.Edit, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c := &counter{Reader: n}
	m := sim.Over(c)
	var e engine.Edit
	for _, k := range want.Keys() {
		e.Query = append(e.Query, lookedAt(k))
	}
	var err error
	if e.Before, err = m.Read(ctx, e.Query); err != nil {
		t.Fatalf("read: %v", err)
	}
	e.Want, e.After, e.Settle = want, e.Before, engine.Duration(engine.DefaultSettle)
	allowed := 1
	if len(read(t, n, resource.Query{{Kind: resource.KindSession}})) > 0 {
		allowed = 2 // the ways of its sessions are looked up, once for a node
	}
	c.reads = 0
	err = m.Predict(ctx, &e)
	if c.reads > allowed {
		t.Errorf("one prediction took %d round trips", c.reads)
	}
	predicting := c.reads
	predicted, readErr := m.Read(ctx, e.Query)
	if readErr != nil {
		t.Fatalf("read: %v", readErr)
	}
	same(t, "from the edit to what the model then says", e.After, predicted)
	if c.reads > predicting {
		t.Errorf("the footprint was not read while predicting: %v", e.Query)
	}
	same(t, "from the edit's Before to the node", e.Before, read(t, n, e.Query))
	return e, err
}

// lookedAt is what an operation reads before it changes k.
func lookedAt(k resource.Key) resource.Selector {
	s := resource.Selector{Kind: k.Kind()}
	switch s.Kind {
	case resource.KindRoute:
		dst, _, _ := strings.Cut(strings.TrimPrefix(string(k), "route "), " table")
		s.Dst = prefix(dst)
	case resource.KindRule:
		s.Family, _, _, _ = resource.ParseRuleKey(k)
	case resource.KindNeigh:
		n, _ := resource.ParseNeighKey(k)
		s.Name, s.Covers = n.Dev, n.Addr
	}
	return s
}

// counter counts the round trips to a node.
type counter struct {
	engine.Reader
	reads int
}

func (c *counter) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	c.reads++
	return c.Reader.Read(ctx, q)
}

func testDrift(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	route := via("10.20.0.0/16", "10.98.0.1", "eth1")
	e, err := predict(t, n, resource.Of(route))
	if err != nil {
		t.Fatal(err)
	}
	meanwhile := via("10.20.0.0/16", "10.98.0.9", "eth1")
	apply(t, n, engine.Edit{Want: resource.Of(meanwhile)})
	before := read(t, n, Everything)

	_, err = n.Apply(t.Context(), e)
	var drift *engine.DriftError
	if !errors.As(err, &drift) {
		t.Fatalf("got %v, want a DriftError", err)
	}
	same(t, "what was found", read(t, n, e.Query), drift.Found)
	same(t, "the node after drift", before, read(t, n, Everything))

	elsewhere := via("10.77.0.0/16", "10.98.0.9", "eth1")
	e, err = predict(t, n, resource.Of(route))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, n, engine.Edit{Want: resource.Of(elsewhere)})
	if _, err := n.Apply(t.Context(), e); err != nil {
		t.Fatalf("a change outside of the footprint is no drift: %v", err)
	}
}

// testPutBack has the second of two routes refused.
func testPutBack(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	apply(t, n, engine.Edit{Want: resource.Of(via("10.20.0.0/16", "10.98.0.1", "eth1"))})
	before := read(t, n, Everything)
	want := resource.Of(
		via("10.20.0.0/16", "10.98.0.9", "eth1"),
		via("10.21.0.0/16", "10.98.0.9", "eth1"),
		via("10.30.0.0/16", "192.0.2.1", "eth1"),
	)
	e, err := predict(t, n, want)
	refused(t, "predicted", err, "ENETUNREACH", "Nexthop has invalid gateway")
	_, err = n.Apply(t.Context(), e)
	refused(t, "applied", err, "ENETUNREACH", "Nexthop has invalid gateway")
	same(t, "the node after a refusal", before, read(t, n, Everything))
}

// testTogether makes routes in one edit that rest on each other.
func testTogether(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	apply(t, n, engine.Edit{Want: resource.Of(dev("10.40.0.0/16", "eth0"))})
	before := read(t, n, Everything)
	want := resource.Of(
		via("10.20.0.0/16", "10.30.0.1", "eth1"), // reached by the next
		dev("10.30.0.0/16", "eth1"),
		via("fd00:20::/64", "fd00:30::1", "eth1"), // too
		dev("fd00:30::/64", "eth1"),
	)
	want[dev("10.40.0.0/16", "eth0").Key()] = nil
	e, err := predict(t, n, want)
	if err != nil {
		t.Fatal(err)
	}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "from the prediction to the node", e.After, found)
	if len(e.Diff()) != 5 {
		t.Errorf("the diff is not of 5 routes:\n%s", e.Diff())
	}
	if _, err := n.Apply(t.Context(), e.Reverse()); err != nil {
		t.Fatalf("take back: %v", err)
	}
	same(t, "the node after taking back", before, read(t, n, Everything))
}

// testSequence sends two edits in one request. The first does not come out as
// it says, and so the second is not made.
func testSequence(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	first, err := predict(t, n, resource.Of(via("10.20.0.0/16", "10.98.0.1", "eth1")))
	if err != nil {
		t.Fatal(err)
	}
	second, err := predict(t, n, resource.Of(via("10.21.0.0/16", "10.98.0.1", "eth1")))
	if err != nil {
		t.Fatal(err)
	}
	after, settle := first.After, first.Settle
	first.After, first.Settle = first.Before, 0
	found, err := engine.ApplyAll(t.Context(), n, []engine.Edit{first, second})
	if err != nil || len(found) != 1 {
		t.Fatalf("got %d states, %v, want that of the first edit", len(found), err)
	}
	same(t, "what was found", after, found[0])
	same(t, "what the second would have changed", second.Before, read(t, n, second.Query))

	first.Before, first.After, first.Settle = after, after, settle
	if found, err = engine.ApplyAll(t.Context(), n, []engine.Edit{first, second}); err != nil || len(found) != 2 {
		t.Fatalf("got %d states, %v, want both", len(found), err)
	}
	same(t, "what was found of the second", second.After, found[1])
}

func testCancel(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	before := read(t, n, Everything)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Read(ctx, Everything); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: got %v, want that it was canceled", err)
	}
	e := engine.Edit{Want: resource.Of(via("10.20.0.0/16", "10.98.0.1", "eth1"))}
	if _, err := n.Apply(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: got %v, want that it was canceled", err)
	}
	if err := sim.Over(n).Predict(ctx, &e); !errors.Is(err, context.Canceled) {
		t.Errorf("Predict: got %v, want that it was canceled", err)
	}
	same(t, "the node afterwards", before, read(t, n, Everything))
}

// testUnpredictable holds the model to admitting what it cannot foresee.
func testUnpredictable(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	state := read(t, n, Everything)
	change := func(k resource.Key, to resource.Resource) resource.State { return resource.State{k: to} }
	tunnel := rule(4, 100, func(r *resource.Rule) { r.Extra = resource.Raw{12, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 4} })
	learned := neigh(permanent(gw4), func(n *resource.Neigh) { n.Permanent = false })
	extra, nhid, second := dev("10.20.0.0/16", "eth1"), dev("10.20.0.0/16", "eth1"), dev("10.20.0.0/16", "eth1")
	extra.Extra, nhid.NHID, second.Nth = resource.Raw{4, 0, 8, 0}, 7, 1
	for name, want := range map[string]resource.State{
		"a nexthop object":          resource.Of(resource.Nexthop{ID: 7, Family: 4, Blackhole: true, Proto: resource.ProtoStatic}),
		"a rule of a tunnel":        resource.Of(tunnel),
		"a rule without table":      resource.Of(rule(4, 100, lookup(0))),
		"a learned neighbour":       resource.Of(learned),
		"a neighbour of lo":         resource.Of(neigh(permanent(gw4), func(n *resource.Neigh) { n.Dev = "lo" })),
		"a neighbour's MAC":         resource.Of(neigh(permanent(gw4), func(n *resource.Neigh) { n.MAC = "" })),
		"a proxy everywhere":        resource.Of(neigh(proxied(gw4), func(n *resource.Neigh) { n.Dev = "" })),
		"a link":                    change(resource.LinkKey("eth1"), nil),
		"unknown attributes":        resource.Of(extra),
		"a route over one":          resource.Of(nhid),
		"a second route":            resource.Of(second),
		"one that the kernel makes": change(metric(proto(dev("fe80::/64", "eth1"), resource.ProtoKernel), 256).Key(), nil),
		"a local route":             change(resource.RouteKey(prefix("10.98.0.2/32"), resource.TableLocal, 0), nil),
		"over the loopback":         resource.Of(dev("10.20.0.0/16", "lo")),
		"another family's hop":      resource.Of(via("10.20.0.0/16", "fe80::1", "eth1")),
		"IPv6 beyond length":        resource.Of(dev("fd00:20::1/64", "eth1")),
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.Edit{Want: want}
			m := sim.Over(n)
			if err := m.Predict(t.Context(), &e); !errors.Is(err, engine.ErrUnpredictable) {
				t.Errorf("got %v, want that it cannot be predicted", err)
			}
			after, err := m.Read(t.Context(), Everything)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "the model afterwards", state, after)
		})
	}
}

func open(t *testing.T, f Factory, s Start) engine.Node {
	t.Helper()
	n := f(t, s)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func read(t *testing.T, n engine.Reader, q resource.Query) resource.State {
	t.Helper()
	s, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return s
}

func apply(t *testing.T, n engine.Node, e engine.Edit) {
	t.Helper()
	if _, err := n.Apply(t.Context(), e); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// same reports what differs between two states.
func same(t *testing.T, what string, want, got resource.State) {
	t.Helper()
	if d := resource.Compare(want, got); len(d) > 0 {
		t.Errorf("%s differs:\n%s", what, d)
	}
}

func refused(t *testing.T, when string, err error, errno, words string) {
	t.Helper()
	var refused *engine.NodeError
	if !errors.As(err, &refused) {
		t.Fatalf("%s: got %v, want %s %q", when, err, errno, words)
	}
	if refused.Errno != errno || refused.Words != words {
		t.Errorf("%s: got %s %q, want %s %q", when, refused.Errno, refused.Words, errno, words)
	}
}
