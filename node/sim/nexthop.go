package sim

import (
	"net/netip"
	"reflect"
	"slices"

	"runbook/engine/resource"
)

// This file is the kernel's rules for nexthop objects (net/ipv4/nexthop.c), as
// far as links need them: they go with theirs, and are put back with it. No operation makes one,
// or a route that uses one.

// needsNexthop returns what must be known to foresee that want is put back.
func needsNexthop(want resource.Resource) resource.Query {
	q := resource.Query{{Kind: resource.KindNexthop}}
	if n, ok := want.(resource.Nexthop); ok && single(n) {
		r := throughNexthop(n)
		q = append(q, needsRoute(r.Key(), r)...)
	}
	return q
}

// makeNexthop puts the nexthop object under k back.
func (w *kernel) makeNexthop(k resource.Key, want resource.Resource) error {
	w.look(resource.Selector{Kind: resource.KindNexthop})
	n, ok := want.(resource.Nexthop)
	have, exists := resource.Get[resource.Nexthop](w.state, k)
	switch {
	case exists && ok && reflect.DeepEqual(have, n), !exists && want == nil:
		return nil
	case !w.back || !ok || exists && len(have.Group) == 0 || len(n.Group) > 0 && len(n.Extra) > 0:
		return unpredictable("a change of %s", k)
	case single(n) && !w.putsBack:
		r := throughNexthop(n)
		if err := w.names(r); err != nil {
			return err
		}
		if _, err := w.newRoute(r); err != nil {
			return err
		}
	}
	for _, m := range n.Group {
		if w.state[resource.NexthopKey(m.ID)] == nil {
			return refuse("EINVAL", "Invalid nexthop id")
		}
	}
	w.set(k, n)
	return nil
}

// single reports whether n is one hop over a link.
func single(n resource.Nexthop) bool { return len(n.Group) == 0 && !n.Blackhole && !n.FDB }

// usesNexthop puts the route r back, which uses a nexthop object: that is there,
// and still is what it was.
func (w *kernel) usesNexthop(r resource.Route) error {
	w.look(resource.Selector{Kind: resource.KindNexthop})
	n, exists := resource.Get[resource.Nexthop](w.state, resource.NexthopKey(r.NHID))
	var hops []resource.Hop
	for _, m := range n.Group {
		one, _ := resource.Get[resource.Nexthop](w.state, resource.NexthopKey(m.ID))
		h := one.Hop
		if h.Weight = m.Weight; len(n.Group) == 1 && r.Family() == 4 {
			h.Weight = 0
		}
		hops = append(hops, h)
	}
	if single(n) {
		hops = []resource.Hop{n.Hop}
	}
	if !w.back || !exists || !reflect.DeepEqual(hops, r.Hops) {
		return unpredictable("a change of a route that uses a nexthop object: %s", r)
	}
	w.set(r.Key(), r)
	return nil
}

// flushNexthops takes away the nexthop objects on the link called name, and
// from groups; it returns those that are gone.
func (w *kernel) flushNexthops(name string) (map[uint32]bool, error) {
	gone := map[uint32]bool{}
	all := resource.All[resource.Nexthop](w.state)
	for _, n := range all {
		if n.Hop.Dev == name {
			gone[n.ID] = true
			w.set(n.Key(), nil)
		}
	}
	for _, n := range all {
		if len(n.Group) == 0 {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(n.Group), func(m resource.GroupMember) bool { return gone[m.ID] })
		switch {
		case len(left) == len(n.Group):
		case len(n.Extra) > 0:
			return nil, unpredictable("what becomes of a group of nexthop objects with attributes that are not modelled: %s", n)
		case len(left) == 0:
			gone[n.ID] = true
			w.set(n.Key(), nil)
		default:
			n.Group = left
			w.set(n.Key(), n)
			w.shrink(n, name)
		}
	}
	return gone, nil
}

// shrink takes the hops over the link called name from the routes that use the group n.
func (w *kernel) shrink(n resource.Nexthop, name string) {
	for _, r := range w.over(name) {
		if r.NHID == n.ID {
			r.Hops = slices.DeleteFunc(slices.Clone(r.Hops), func(h resource.Hop) bool { return h.Dev == name })
			if len(r.Hops) == 1 && r.Family() == 4 { // which is listed like a route over one hop
				r.Hops[0].Weight = 0
			}
			w.set(r.Key(), r)
		}
	}
}

// throughNexthop is a route over the hop of n: the kernel asks of both the same.
func throughNexthop(n resource.Nexthop) resource.Route {
	dst := netip.MustParsePrefix("198.51.100.255/32") // of a net that nobody has
	if n.Family == 6 {
		dst = netip.MustParsePrefix("2001:db8:ffff:ffff::ffff/128")
	}
	return resource.Route{
		Dst: dst, Table: resource.TableMain, Metric: resource.DefaultMetric(dst), Type: resource.Unicast, Proto: resource.ProtoStatic,
		Hops: []resource.Hop{n.Hop},
	}
}
