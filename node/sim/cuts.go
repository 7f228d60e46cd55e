package sim

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what a change does to the sessions that the node has.

// cut sets e.Cuts, where e changes what sessions depend on. The model's sessions
// then are those that go on, on their new ways.
func (n *Node) cut(ctx context.Context, e *engine.Edit) error {
	if err := n.store.load(ctx, sessionsFor(e)); err != nil {
		return err
	}
	concerned, q := n.concerned(&interruption{before: kernel{state: n.store.known}, restart: e.Restart, diff: e.Diff()})
	if len(concerned) == 0 {
		return nil
	}
	if err := n.store.load(ctx, q); err != nil {
		return err
	}
	before, now := e.Before, e.After
	if len(q) > 0 { // ways lead past the footprint, too
		before, now = n.store.known.Clone(), n.store.known
		for k := range e.After {
			delete(before, k)
		}
		maps.Copy(before, e.Before)
	}
	var after []resource.Sessions
	e.Cuts, after = cuts(concerned, before, now, e.Restart)
	for _, s := range concerned {
		delete(n.store.known, s.Key())
	}
	for _, s := range after {
		n.store.known[s.Key()] = s
	}
	return nil
}

// concerned returns the sessions that x may mean something to, and what must be known to say what.
func (n *Node) concerned(x *interruption) (found []resource.Sessions, q resource.Query) {
	for _, r := range n.store.known {
		s, ok := r.(resource.Sessions)
		if !ok || !x.concerns(s) {
			continue
		}
		found = append(found, s)
		if s.Peer.IsValid() {
			q = append(q, resource.Selector{Kind: resource.KindRoute, Covers: s.Peer.Addr()}, resource.Selector{Kind: resource.KindRoute, Covers: s.Local})
		}
		if !s.Hidden() {
			q = append(q, resource.Selector{Kind: resource.KindLink}, resource.Selector{Kind: resource.KindAddr}, resource.Selector{Kind: resource.KindRule})
		}
	}
	slices.SortFunc(found, func(a, b resource.Sessions) int { return cmp.Compare(a.Key(), b.Key()) })
	return found, q
}

// sessionsFor selects the sessions, where e can mean anything to them.
func sessionsFor(e *engine.Edit) resource.Query {
	if e.Restart == "" && !slices.ContainsFunc(slices.Collect(maps.Keys(e.Want)), func(k resource.Key) bool { return carries(k.Kind()) }) {
		return nil
	}
	return resource.Query{{Kind: resource.KindSession}}
}

// carries reports whether sessions depend on resources of this kind.
func carries(k resource.Kind) bool {
	switch k {
	case resource.KindLink, resource.KindAddr, resource.KindRoute, resource.KindRule, resource.KindNeigh, resource.KindNexthop:
		return true
	}
	return false
}

// cuts says which of the sessions are cut, stalled or led another way by what
// makes after of before, and by the restart of a link, if one is named. How
// after came about does not matter. It also returns the sessions that go on, as they then are.
//
// Both states hold all links and addresses, and the routes and rules that are for the peers.
func cuts(sessions []resource.Sessions, before, after resource.State, restart string) ([]engine.Cut, []resource.Sessions) {
	x := interruption{
		before: kernel{state: before}, after: kernel{state: after},
		restart: restart, diff: resource.Compare(before, after),
	}
	var out []engine.Cut
	var left []resource.Sessions
	for _, s := range sessions {
		if !x.concerns(s) {
			left = append(left, s)
			continue
		}
		c, now, hit := x.fate(s)
		if hit {
			out = append(out, c)
		}
		if !hit || c.Stalls || c.Perhaps {
			left = append(left, now)
		}
	}
	slices.SortStableFunc(out, func(a, b engine.Cut) int { return cmp.Compare(b.Count, a.Count) }) // the largest first
	return out, left
}

// interruption is a change, for the sessions that it meets.
type interruption struct {
	before, after kernel
	restart       string
	diff          resource.Diff
}

// concerns reports whether the change touches anything that s may depend on.
func (x *interruption) concerns(s resource.Sessions) bool {
	if s.Hidden() {
		return x.restart != "" || x.disturbs()
	}
	if x.restart != "" && (s.Dev == x.restart || s.Dev == "" || s.Local.Is6() || !s.Local.IsValid() || home(x.before.state, s.Local) == x.restart) {
		return true
	}
	return slices.ContainsFunc(x.diff, func(c resource.Change) bool {
		return either(c, func(r resource.Resource) bool {
			in, isRoute := r.(resource.Route) // of what the peer sends
			return dependsOn(s, r) || isRoute && in.Dst.Contains(s.Local)
		})
	})
}

// either reports whether f is true of what c changes, before it or after it.
func either(c resource.Change, f func(resource.Resource) bool) bool {
	return c.Before != nil && f(c.Before) || c.After != nil && f(c.After)
}

// dependsOn reports whether a change of r can mean anything to s.
func dependsOn(s resource.Sessions, r resource.Resource) bool {
	switch r := r.(type) {
	case resource.Link:
		return true // one that its route could lead over, too
	case resource.Addr:
		return !s.Local.IsValid() || r.Prefix.Addr() == s.Local
	case resource.Route:
		if !s.Peer.IsValid() {
			id, err := parseRouteKey(s.Route)
			return err != nil || r.Dst.Overlaps(id.Dst)
		}
		return r.Dst.Contains(s.Peer.Addr()) && couldTake(s, r)
	case resource.Rule:
		return !s.Local.IsValid() || (r.Family == 4) == s.Local.Is4()
	case resource.Neigh:
		return r.Dev == s.Dev && !r.Proxy
	}
	return false
}

// fate is what becomes of s, which the change concerns: whether it is hit, and how it then is.
func (x *interruption) fate(s resource.Sessions) (c engine.Cut, now resource.Sessions, hit bool) {
	perhaps := engine.Cut{Sessions: s, Perhaps: true}
	if s.Hidden() {
		return perhaps, s, true
	}
	c, now, hit = x.onItsWay(s)
	c.Perhaps = c.Perhaps || hit && x.lingers(s)
	if !hit && s.Own && (x.changes(resource.LinkKey(s.Dev)) || x.changes(s.Route)) {
		return perhaps, s, true // what runbook works through must not be lost to what is not foreseen
	}
	return c, now, hit
}

// lingers reports whether the change deletes rules of IPv6: the kernel looks up
// anew only what is new, and each of the rest once a route on its own way has changed.
func (x *interruption) lingers(s resource.Sessions) bool {
	return s.Local.Is6() && slices.ContainsFunc(x.diff, func(c resource.Change) bool {
		return c.Key.Kind() == resource.KindRule && c.After == nil
	})
}

// disturbs reports whether the change takes anything away, or leads any packets another way.
func (x *interruption) disturbs() bool {
	return slices.ContainsFunc(x.diff, func(c resource.Change) bool {
		switch c.Key.Kind() {
		case resource.KindAddr:
			return c.Before != nil
		case resource.KindLink:
			was, _ := c.Before.(resource.Link)
			return c.Before != nil && was.Up
		case resource.KindRoute, resource.KindRule, resource.KindNeigh:
			return true
		}
		return false
	})
}

func (x *interruption) changes(k resource.Key) bool {
	return slices.ContainsFunc(x.diff, func(c resource.Change) bool { return c.Key == k })
}

// onItsWay is fate as far as it follows from the addresses and the way of s.
func (x *interruption) onItsWay(s resource.Sessions) (c engine.Cut, now resource.Sessions, hit bool) {
	c, now = engine.Cut{Sessions: s}, s
	if s.Local.IsValid() && has(x.before.state, s.Local) && !has(x.after.state, s.Local) {
		return c, now, true
	}
	if s.Peer.IsValid() && x.before.takes(s) && !x.after.takes(s) {
		return c, now, true
	}
	was, is := x.ways(s)
	switch {
	case !s.Peer.IsValid() || was.route.Key() != s.Route:
		c, hit = x.unclear(s)
	case was.same(is) && (was.sameChoice(is) || len(is.hops) < 2):
		hit = x.neighbour(s, was)
		c.Perhaps = hit
		now.Route = is.route.Key() // it may be another to the same place
	case !is.ok:
		hit = true
	default:
		c.Stalls, c.To, hit = true, is.String(), true
		now.Dev, now.Route = is.hop.Dev, is.route.Key()
		if len(is.hops) > 1 { // the kernel chooses anew when they change, nobody knows how
			c.Perhaps, now.Dev = true, ""
		}
	}
	if !hit {
		c.Perhaps, hit = x.interrupts(s, was)
		c.Stalls = hit && x.restart != ""
	}
	return c, now, hit
}

// ways are the ways of s before the change and after it.
func (x *interruption) ways(s resource.Sessions) (was, is way) {
	if !s.Peer.IsValid() {
		return was, is
	}
	return x.before.way(s), x.after.way(s)
}

// interrupts reports whether the change takes from s, whose own packets go on as
// far as that can be known, the link that its peer's come by, or a restart its link or
// address for a while; or perhaps does. Nothing says by which link they come: most likely the one that has the address.
func (x *interruption) interrupts(s resource.Sessions, w way) (perhaps, hit bool) {
	arrives := home(x.before.state, s.Local)
	if s.Dev == "lo" && s.Local.Is4() { // within the node
		arrives = ""
	}
	switch {
	case x.restart == "":
		hit = x.before.up(arrives) && !x.after.up(arrives)
		return hit, hit
	case s.Dev == x.restart, s.Local.Is6() && arrives == x.restart: // IPv4 addresses stay when a link goes down
		return false, true
	default:
		perhaps = arrives == x.restart || s.Dev == "" && slices.ContainsFunc(w.hops, func(h resource.Hop) bool { return h.Dev == x.restart })
		return perhaps, perhaps
	}
}

// unclear is the fate of a session that the model cannot find the way of: its
// peer is not known, or the kernel chose by what is not modelled.
func (x *interruption) unclear(s resource.Sessions) (c engine.Cut, hit bool) {
	c = engine.Cut{Sessions: s, Perhaps: true}
	if x.before.up(s.Dev) && !x.after.up(s.Dev) {
		return c, true
	}
	for _, d := range x.diff {
		switch d.Key.Kind() {
		case resource.KindLink:
			hit = s.Dev == "" // one of several that is not known
		case resource.KindAddr:
			hit = !s.Local.IsValid() && d.After == nil
		case resource.KindRule:
			hit = either(d, func(r resource.Resource) bool { return dependsOn(s, r) })
		case resource.KindRoute:
			hit = d.Key == s.Route || either(d, func(r resource.Resource) bool { return dependsOn(s, r) && overrides(r.(resource.Route), s.Route) })
			r, there := d.After.(resource.Route)
			c.Stalls = hit && there && !rejects(r.Type)
		}
		if hit {
			return c, true
		}
	}
	return c, false
}

// couldTake reports whether r, which is for the peer of s, is what s takes or
// could be preferred to that. In a table of its own it could always.
func couldTake(s resource.Sessions, r resource.Route) bool {
	id, err := parseRouteKey(s.Route)
	switch {
	case err != nil, r.Table == id.Table, id.Table == resource.TableLocal && r.Table == resource.TableMain:
		return overrides(r, s.Route)
	default:
		return id.Table != resource.TableLocal // which is asked first
	}
}

// overrides reports whether the route r is the one with the key k, or comes
// before it in a table where both are for a packet.
func overrides(r resource.Route, k resource.Key) bool {
	id, err := parseRouteKey(k)
	return err != nil || r.Dst.Bits() > id.Dst.Bits() || r.Dst == id.Dst && (r.Metric <= id.Metric || r.Src.IsValid())
}

// neighbour reports whether the change is of the entry that says which machine
// the next one on the way of s is.
func (x *interruption) neighbour(s resource.Sessions, w way) bool {
	next := w.hop.Via
	if !next.IsValid() {
		next = s.Peer.Addr()
	}
	return slices.ContainsFunc(x.diff, func(c resource.Change) bool {
		return either(c, func(r resource.Resource) bool {
			n, ok := r.(resource.Neigh)
			return ok && !n.Proxy && n.Dev == w.hop.Dev && n.Addr == next
		})
	})
}

func has(s resource.State, a netip.Addr) bool { return home(s, a) != "" }

// home is the link that has the address a, or "".
func home(s resource.State, a netip.Addr) string {
	for _, r := range s {
		if addr, ok := r.(resource.Addr); ok && addr.Prefix.Addr() == a {
			return addr.Dev
		}
	}
	return ""
}
