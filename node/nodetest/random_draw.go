package nodetest

import (
	"slices"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file draws operations of every kind for a node of which is known what it holds: half
// of them are about something that is there, which goes or becomes a little different, so that they meet.

// drawing draws operations for a node.
type drawing struct {
	rt    *rapid.T
	now   resource.State // what the node holds
	rules bool           // policy rules are drawn, too
}

// operation draws one, and says of which kind it is.
func (d *drawing) operation() (kind string, e engine.Edit) {
	n := rapid.IntRange(0, 15).Draw(d.rt, "kind")
	if n == 10 && !d.rules {
		n = 0
	}
	switch n {
	case 0, 1, 2, 3, 4, 5:
		return d.change("route", d.route)
	case 6, 7, 8, 9:
		return d.change("addr", d.addr)
	case 10:
		return d.change("rule", d.rule)
	case 11:
		return d.change("neigh", d.neigh)
	case 12:
		return "link restart", engine.Edit{Restart: rapid.SampledFrom([]string{"eth1", "eth1", "eth1", "eth0", "eth0", "eth9"}).Draw(d.rt, "restart")}
	default:
		return d.link()
	}
}

// change draws a resource that draw knows to make, of those that there are or another one: it comes, or goes.
func (d *drawing) change(kind string, draw func(how string) (resource.Resource, bool)) (string, engine.Edit) {
	how := rapid.SampledFrom([]string{"add", "add", "vary", "vary", "delete", "delete"}).Draw(d.rt, "how")
	r, there := draw(how)
	if !there { // nothing of the kind
		how = "add"
	}
	want := resource.State{r.Key(): r}
	if how == "delete" {
		want[r.Key()] = nil
	}
	return kind + " " + how, engine.Edit{Want: want}
}

// one draws one of the resources that there are, of those that are good for it.
func one[R resource.Resource](d *drawing, good func(R) bool) (R, bool) {
	all := slices.DeleteFunc(resource.All[R](d.now), func(r R) bool { return !good(r) })
	if len(all) == 0 {
		var none R
		return none, false
	}
	return rapid.SampledFrom(all).Draw(d.rt, "one that is there"), true
}

func (d *drawing) route(how string) (resource.Resource, bool) {
	operators := func(r resource.Route) bool {
		return r.Type == resource.Unicast && !r.ByLink() || r.Proto == resource.ProtoStatic
	}
	r, there := one(d, operators)
	if !there || how == "add" {
		return randomRoute(d.rt), false
	}
	if how == "vary" {
		r = d.varied(r)
	}
	return r, true
}

// varied is r with something of another route.
func (d *drawing) varied(r resource.Route) resource.Route {
	other := randomRoute(d.rt)
	r.Hops = slices.Clone(r.Hops)
	same := other.Family() == r.Family()
	switch n := rapid.IntRange(0, 6).Draw(d.rt, "what"); {
	case n == 0:
		r.Metric = rapid.SampledFrom([]uint32{0, 256, 1024, 2000}).Draw(d.rt, "metric")
	case n == 1:
		r.Table = other.Table
	case n == 2 && same:
		r.PrefSrc = other.PrefSrc
	case n == 3 && same && other.Type == resource.Unicast && r.Type == resource.Unicast:
		r.Hops, r.Scope = other.Hops, other.Scope
	case n == 4 && len(r.Hops) > 1:
		r.Hops = slices.Delete(r.Hops, 0, 1)
		if len(r.Hops) == 1 {
			r.Hops[0].Weight = 0
		}
	case n == 5 && same:
		r.Dst = other.Dst
	default:
		r.Proto = 186
	}
	return r
}

func (d *drawing) addr(how string) (resource.Resource, bool) {
	fresh := randomAddr(d.rt)
	a, there := one(d, func(a resource.Addr) bool { return a.Dev != "lo" })
	if !there || how == "add" {
		return fresh, false
	}
	if a.Place, a.Secondary = 0, false; how == "vary" {
		switch n := rapid.IntRange(0, 3).Draw(d.rt, "what"); {
		case n == 0:
			a.Metric = fresh.Metric
		case n == 1 && a.Family() == fresh.Family():
			a.Prefix, a.Peer = fresh.Prefix, fresh.Peer
		case n == 2:
			a.Dev = fresh.Dev
			a.Label = ""
		default:
			a.NoPrefixRoute = !a.NoPrefixRoute
		}
	}
	return a, true
}

func (d *drawing) rule(how string) (resource.Resource, bool) {
	fresh := randomRule(d.rt)
	r, there := one(d, func(resource.Rule) bool { return true })
	if !there || how == "add" {
		return fresh, false
	}
	if how == "vary" {
		r.Table, r.Action, r.Goto = fresh.Table, fresh.Action, fresh.Goto
	}
	return r, true
}

func (d *drawing) neigh(how string) (resource.Resource, bool) {
	fresh := randomNeigh(d.rt)
	n, there := one(d, func(n resource.Neigh) bool { return !n.Volatile() })
	if !there || how == "add" {
		return fresh, false
	}
	if how == "vary" {
		n.MAC, n.Router, n.External, n.Proto = fresh.MAC, fresh.Router, fresh.External, fresh.Proto
	}
	return n, true
}

// link draws a link that goes up, down, or gets another MTU. Where one is down, it mostly goes up.
func (d *drawing) link() (kind string, e engine.Edit) {
	l, _ := resource.Get[resource.Link](d.now, resource.LinkKey(rapid.SampledFrom([]string{"eth1", "eth1", "eth0"}).Draw(d.rt, "link")))
	n := rapid.IntRange(0, 4).Draw(d.rt, "link operation")
	switch {
	case n == 0:
		kind, l.MTU = "link mtu", rapid.SampledFrom([]int{1280, 1400, 1500, 9000, 65535, 65536, 1279, 68}).Draw(d.rt, "mtu")
	case n == 1 || l.Up:
		kind, l.Up, l.Carrier = "link down", false, false
	default:
		kind, l.Up, l.Carrier = "link up", true, true
	}
	return kind, engine.Edit{Want: resource.Of(l)}
}
