package sim

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// A change is refused where what it takes along or away could not be put back, and not
// where it only could not be made anew by itself.
func TestCanGoBack(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	over := route("10.20.0.0/16", "10.98.0.1")
	sourced := over
	sourced.PrefSrc = a("10.98.0.77")
	object := resource.Nexthop{ID: 7, Family: 4, Hop: over.Hops[0], Scope: resource.ScopeLink, Proto: resource.ProtoStatic}
	reject := resource.Route{Dst: p("10.98.0.1/32"), Table: resource.TableLocal, Type: resource.Blackhole, Scope: resource.ScopeLink}
	toMain := resource.DefaultRulesOf(4)[1]
	link := func(up, keeps bool) resource.Link {
		l, _ := resource.Get[resource.Link](LabNode("node-1", 1), "link eth1")
		l.Up, l.Carrier, l.Conf.NoDAD, l.Conf.KeepAddrOnDown = up, up, true, keeps
		return l
	}
	added := resource.Of(resource.Addr{Dev: "eth1", Prefix: p("fd00:98::9/64"), Permanent: true})
	own := func(address string) engine.Edit {
		return engine.Edit{Want: resource.State{resource.Key("addr eth1 " + address): nil}}
	}
	restart, taken := engine.Edit{Restart: "eth1"}, engine.Edit{Want: resource.State{over.Key(): nil}}

	for _, c := range []struct {
		name    string
		there   resource.State   // beside a lab's node; nil: gone from it
		before  []resource.State // what is changed then
		edit    engine.Edit
		refused string // nothing: it is not
	}{
		{"a route", resource.Of(over, object), nil, restart, ""},
		{"without the way to its gateway", resource.State{over.Key(): over, object.Key(): object, "route 10.98.0.0/16 table 254 metric 0": nil}, nil, restart, ""},
		{"the gateway blackholed in local", resource.Of(over, reject), nil, restart, "its gateway 10.98.0.1 would not be found"},
		{"no rule to main", resource.State{over.Key(): over, toMain.Key(): nil}, nil, restart, "its gateway 10.98.0.1 would not be found"},
		{"no rule to main, of a nexthop object", resource.State{object.Key(): object, toMain.Key(): nil}, nil, restart, "its gateway 10.98.0.1 would not be found"},
		{"a source that is detected first", resource.Of(resource.Route{
			Dst: p("2001:db8::/64"), Table: resource.TableMain, Metric: 1024, Type: resource.Unicast, Proto: resource.ProtoStatic,
			PrefSrc: a("fe80::ff:fe62:2"), Hops: []resource.Hop{{Dev: "eth1"}},
		}), nil, restart, "detects it first"},
		{"a source that is gone", resource.Of(sourced), nil, restart, "10.98.0.77 is no address of the node any more"},
		{"a route taken away", resource.State{over.Key(): over, "route 10.98.0.0/16 table 254 metric 0": nil}, nil, taken, ""},
		{"a route taken away, its source gone", resource.Of(sourced), nil, taken, "10.98.0.77 is no address of the node any more"},
		{"a kept address", resource.Of(link(true, true)), []resource.State{resource.Of(link(false, true))}, own("fd00:98::2/64"), "was kept when eth1 went down"},
		{"an address added on a link that is down", resource.Of(link(true, false)), []resource.State{resource.Of(link(false, false)), added}, own("fd00:98::9/64"), ""},
		{"an address that is a broadcast address, too", nil, []resource.State{resource.Of(resource.Addr{Dev: "eth1", Prefix: p("10.99.255.255/32"), Permanent: true})}, own("10.99.255.255/32"), "is a broadcast address of the node, too"},
		{"taking up what would keep it", resource.Of(link(true, true)), []resource.State{resource.Of(link(false, true)), added}, engine.Edit{Want: resource.Of(link(true, true))}, "but not the route to that"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := LabNode("node-1", 1)
			for k, r := range c.there {
				if s[k] = r; r == nil {
					delete(s, k)
				}
			}
			n, e := New(s), c.edit
			for _, want := range c.before {
				if _, err := n.Apply(t.Context(), engine.Edit{Want: want}); err != nil {
					t.Fatal(err)
				}
			}
			err := n.Predict(t.Context(), &e)
			switch {
			case c.refused == "" && err != nil:
				t.Error(err)
			case c.refused != "" && (!errors.Is(err, engine.ErrUnpredictable) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got %v, want %q", err, c.refused)
			}
		})
	}
}
