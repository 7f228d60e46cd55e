package sim_test

import (
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// Random changes of routes on a node that has sessions: each session then goes
// the way that was predicted, by the route that was predicted, as the kernel
// says; and those that were said to be cut go no way at all.
func TestWaysFollowTheKernel(t *testing.T) {
	for name, prepare := range map[string]string{"no rules": "", "rules": `
		-n NODE rule add to 10.20.0.4/31 lookup 100
		-n NODE rule add from 10.98.0.2 to 10.20.0.0/29 ipproto tcp dport 5432 lookup 100
		-n NODE rule add to 10.20.0.9 goto 32767
		-n NODE rule add priority 50 lookup main suppress_prefixlength 8
		-n NODE -6 rule add to fd00:20::4/127 lookup 100
		-n NODE -6 rule add not from fd00:97::/16 lookup 100 iif lo
		-n NODE route add unreachable 10.20.0.3/32 table 100
		-n NODE -6 route add fd00:20::/64 via fd00:98::9 dev eth1 table 100`} {
		t.Run(name, func(t *testing.T) { testWays(t, newSessionWorld(t, twoHops+prepare)) })
	}
}

func testWays(t *testing.T, w *sessionWorld) {
	network := resource.Query{{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRoute}}
	start := w.read(resource.KindLink, resource.KindAddr, resource.KindRoute)
	var c wayCounts
	rapid.Check(t, func(rt *rapid.T) {
		now, err := w.node.Read(t.Context(), network)
		if err != nil {
			rt.Fatal(err)
		}
		gone, back := resource.State{}, resource.State{}
		for _, d := range resource.Compare(now, start) {
			if d.After == nil {
				gone[d.Key] = nil
			} else {
				back[d.Key] = d.After
			}
		}
		for _, want := range []resource.State{gone, back} { // first what may be in the way of a gateway
			if _, err := w.node.Apply(t.Context(), engine.Edit{Want: want}); err != nil {
				rt.Fatalf("back to the start: %v", err)
			}
		}
		m := sim.Over(w.node)
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			w.randomWay(rt, m, &c)
		}
	})
	t.Logf("%d changes; of the sessions' groups %d went on as they were, %d another way, %d were cut, %d perhaps one or the other", c.changes, c.same, c.moved, c.cut, c.perhaps)
	if c.changes == 0 || c.same == 0 || c.moved == 0 || c.cut == 0 {
		t.Error("that is nothing")
	}
}

type wayCounts struct{ changes, same, moved, cut, perhaps int }

// randomWay predicts a change on m, which has predicted those before it, makes
// it, and compares.
func (w *sessionWorld) randomWay(rt *rapid.T, m *sim.Node, c *wayCounts) {
	ctx := w.t.Context()
	want := resource.Of(randomWayRoute(rt))
	if rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
		for k := range want {
			want[k] = nil
		}
	}
	q := resource.Query{{Kind: resource.KindSession}}
	before, err := m.Read(ctx, q)
	if err != nil {
		rt.Fatal(err)
	}
	e := engine.Edit{Want: want}
	var refused *engine.NodeError
	switch err := m.Predict(ctx, &e); {
	case errors.Is(err, engine.ErrUnpredictable), errors.As(err, &refused):
		return
	case err != nil:
		rt.Fatal(err)
	}
	if _, err := w.node.Apply(ctx, e); err != nil {
		rt.Fatal(err)
	}
	c.changes++
	foreseen, err := m.Read(ctx, q)
	if err != nil {
		rt.Fatal(err)
	}
	kernel := byEnds(w.read(resource.KindSession))
	model := byEnds(foreseen)
	for ends, s := range byEnds(before) {
		cut, hit := cutOf(e.Cuts, ends)
		is, goes := kernel[ends]
		switch {
		case hit && cut.Perhaps, model[ends].Dev == "" && goes: // one of several hops
			c.perhaps++
		case hit && !cut.Stalls:
			c.cut++
			if goes {
				rt.Fatalf("%v\n%s was said to be cut, and goes by %s", e.Diff(), s, is.Route)
			}
		case !goes || is.Dev != model[ends].Dev || is.Route != model[ends].Route || !hit && is.Dev != s.Dev:
			rt.Fatalf("%v\n%s was said to go on by %s dev %s, and goes by %s dev %s", e.Diff(), s, model[ends].Route, model[ends].Dev, is.Route, is.Dev)
		case hit:
			c.moved++
		default:
			c.same++
		}
	}
}

// ends tell a group of sessions apart, whatever way it goes.
type ends struct {
	local netip.Addr
	peer  netip.AddrPort
	port  uint16
}

func endsOf(s resource.Sessions) ends { return ends{s.Local, s.Peer, s.Port} }

func byEnds(s resource.State) map[ends]resource.Sessions {
	out := map[ends]resource.Sessions{}
	for _, g := range resource.All[resource.Sessions](s) {
		if !g.Hidden() {
			out[endsOf(g)] = g
		}
	}
	return out
}

func cutOf(cuts []engine.Cut, e ends) (engine.Cut, bool) {
	for _, c := range cuts {
		if endsOf(c.Sessions) == e {
			return c, true
		}
	}
	return engine.Cut{}, false
}

// randomWayRoute is a route that matters to sessions of the node.
func randomWayRoute(rt *rapid.T) resource.Route {
	draw := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, what) }
	six := rapid.Bool().Draw(rt, "IPv6")
	r := resource.Route{Type: resource.Unicast, Proto: resource.ProtoStatic, Table: resource.TableMain}
	vias := map[string]string{"10.98.0.1": "eth1", "10.98.0.9": "eth1", "10.98.0.77": "eth1", "10.99.0.1": "eth0"}
	dst := draw("dst", "10.20.0.0/16", "10.20.0.0/16", "10.20.0.4/31", "10.20.0.5/32", "10.20.0.0/29", "10.98.0.1/32", "10.99.0.0/24", "0.0.0.0/0", "10.0.0.0/8")
	via := draw("via", "10.98.0.1", "10.98.0.9", "10.98.0.77", "10.99.0.1")
	second := draw("second", "10.98.0.9", "10.99.0.1")
	if six {
		vias = map[string]string{"fd00:98::1": "eth1", "fd00:98::9": "eth1", "fd00:99::1": "eth0"}
		dst = draw("dst", "fd00:20::/64", "fd00:20::/64", "fd00:20::4/127", "fd00:20::5/128", "fd00:20::/125", "fd00:98::1/128", "fd00::/16", "::/0")
		via = draw("via", "fd00:98::1", "fd00:98::9", "fd00:99::1")
		second = draw("second", "fd00:98::9", "fd00:99::1")
	}
	r.Dst = netip.MustParsePrefix(dst)
	r.Metric = resource.DefaultMetric(r.Dst)
	if rapid.IntRange(0, 2).Draw(rt, "other metric") == 0 {
		r.Metric = 7
	}
	tables := []resource.Table{resource.TableMain, resource.TableMain, resource.TableMain, resource.TableDefault, 100}
	if six { // of IPv4 the kernel does not say whether a route is in local or in main, while they are one
		tables = append(tables, resource.TableLocal)
	}
	r.Table = rapid.SampledFrom(tables).Draw(rt, "table")
	r.Type = rapid.SampledFrom([]resource.RouteType{resource.Unicast, resource.Unicast, resource.Unicast, resource.Blackhole, resource.Prohibit, resource.Throw}).Draw(rt, "type")
	if r.Type != resource.Unicast {
		return r
	}
	r.Hops = []resource.Hop{{Via: netip.MustParseAddr(via), Dev: vias[via]}}
	if via != second && rapid.IntRange(0, 4).Draw(rt, "hops") == 0 {
		r.Hops = append(r.Hops, resource.Hop{Via: netip.MustParseAddr(second), Dev: vias[second], Weight: 1})
		r.Hops[0].Weight = 1
	}
	return r
}
