package sim

import (
	"context"
	"net/netip"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// moving is a node that changes between two reads, and counts them.
type moving struct {
	state resource.State
	reads []resource.Query
}

func (m *moving) Read(_ context.Context, q resource.Query) (resource.State, error) {
	m.reads = append(m.reads, q)
	return m.state.Select(q), nil
}

func route(dst, via string) resource.Route {
	return resource.Route{
		Dst: netip.MustParsePrefix(dst), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoStatic,
		Hops: []resource.Hop{{Via: netip.MustParseAddr(via), Dev: "eth1"}},
	}
}

func TestEverythingIsReadOnce(t *testing.T) {
	src := &moving{state: LabNode("node-1", 1)}
	m := Over(src)
	look := func(reads int, q ...resource.Selector) {
		t.Helper()
		if _, err := m.Read(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if len(src.reads) != reads {
			t.Errorf("%v: %d reads so far, want %d", q, len(src.reads), reads)
		}
	}
	p := netip.MustParsePrefix("10.98.0.0/16")
	look(1, resource.Selector{Kind: resource.KindRoute, Dst: p})
	look(1, resource.Selector{Kind: resource.KindRoute, Dst: p})
	look(1, resource.Selector{Kind: resource.KindRoute, Dst: p, Table: resource.TableMain})
	look(1, resource.Selector{Kind: resource.KindRoute, Dst: p, Family: 4})
	look(2, resource.Selector{Kind: resource.KindLink}, resource.Selector{Kind: resource.KindLink, Name: "eth1"})
	if got := len(src.reads[1]); got != 1 {
		t.Errorf("asked for %v: the second is in the first", src.reads[1])
	}
	look(2, resource.Selector{Kind: resource.KindLink, Name: "eth0"})
	look(3, resource.Selector{Kind: resource.KindRoute, Family: 4})
	look(3, resource.Selector{Kind: resource.KindRoute, Covers: p.Addr()})
}

func TestWhatIsKnownStays(t *testing.T) {
	src := &moving{state: LabNode("node-1", 1)}
	kept := route("10.20.0.0/16", "10.98.0.1")
	gone := route("10.21.0.0/16", "10.98.0.1")
	src.state[kept.Key()], src.state[gone.Key()] = kept, gone
	m := Over(src)
	if err := m.Predict(t.Context(), &engine.Edit{Want: resource.State{gone.Key(): nil}}); err != nil {
		t.Fatal(err)
	}
	absent := resource.Selector{Kind: resource.KindRoute, Dst: netip.MustParsePrefix("10.22.0.0/16")}
	if _, err := m.Read(t.Context(), resource.Query{{Kind: resource.KindRoute, Dst: kept.Dst}, absent}); err != nil {
		t.Fatal(err)
	}

	// The node moves on: one route changes, and one appears where none was.
	changed, late := route("10.20.0.0/16", "10.98.0.9"), route("10.22.0.0/16", "10.98.0.1")
	src.state[changed.Key()], src.state[late.Key()] = changed, late
	got, err := m.Read(t.Context(), resource.Query{{Kind: resource.KindRoute, Name: "eth1", Family: 4}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []resource.Route{gone, late} {
		if got[r.Key()] != nil {
			t.Errorf("%s is there, but was known to be absent", r)
		}
	}
	if r, _ := resource.Get[resource.Route](got, kept.Key()); !equal(r, kept) {
		t.Errorf("got %s, want what was known: %s", r, kept)
	}
}

func TestNewHoldsItsOwnState(t *testing.T) {
	s := LabNode("node-1", 1)
	n := New(s)
	r := route("10.20.0.0/16", "10.98.0.1")
	if _, err := n.Apply(t.Context(), engine.Edit{Want: resource.Of(r)}); err != nil {
		t.Fatal(err)
	}
	if s[r.Key()] != nil {
		t.Error("Apply changed the state that the node was made from")
	}
}

func TestParseRouteKey(t *testing.T) {
	p := netip.MustParsePrefix
	for _, r := range []resource.Route{
		{Dst: p("10.20.0.0/16"), Table: 254},
		{Dst: p("10.20.0.0/16"), Table: 70000, Metric: 1<<32 - 1, TOS: 0x10, Nth: 3},
		{Dst: p("::/0"), Table: 254, Metric: 1024, Src: p("fd00::/8")},
	} {
		if got, err := parseRouteKey(r.Key()); err != nil || got.Key() != r.Key() {
			t.Errorf("%q: got %q, %v", r.Key(), got.Key(), err)
		}
	}
	for _, k := range []resource.Key{"", "link eth0", "route", "route x table 1 metric 1", "route 10.0.0.0/8 table 254", "route 10.0.0.0/8 table 254 metric 0 what"} {
		if _, err := parseRouteKey(k); err == nil {
			t.Errorf("%q is no key of a route, but was taken for one", k)
		}
	}
}

func TestLabNode(t *testing.T) {
	s := LabNode("node-300", 300)
	for _, k := range []resource.Key{
		"addr eth0 10.99.1.45/16", "addr eth1 10.98.1.45/16", "addr eth1 fd00:98::12d/64", "addr eth1 fe80::ff:fe62:12d/64",
		"route 10.98.255.255/32 table 255 metric 0", "link lo", "facts",
	} {
		if s[k] == nil {
			t.Errorf("%s is missing", k)
		}
	}
	for k, r := range s {
		if r.Key() != k {
			t.Errorf("%s holds %s", k, r.Key())
		}
	}
}
