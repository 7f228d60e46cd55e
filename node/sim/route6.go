package sim

import (
	"net/netip"
	"reflect"
	"slices"

	"runbook/engine/resource"
)

// This file is the kernel's rules for IPv6 routes, in the order in which it
// asks them. The functions that they follow (net/ipv6/route.c, addrconf.c) are
// named, so that a newer kernel can be compared.

// multicast6 selects the routes that every link with IPv6 has while it is up:
// where one is missing, IPv6 is disabled there. No field of a Link says so.
var multicast6 = resource.Selector{Kind: resource.KindRoute, Dst: netip.MustParsePrefix("ff00::/8"), Table: resource.TableLocal}

// newRoute6 returns r as the kernel would hold it, or the kernel's refusal
// (ip6_route_add, ip6_route_multipath_add). What is replaced still counts while
// a gateway is resolved, and any route of the same identity is replaced whole.
func (w *kernel) newRoute6(r resource.Route) (resource.Route, error) {
	r.Hops = slices.Clone(r.Hops)
	r.Scope = resource.ScopeGlobal
	switch {
	case r.TOS != 0: // rtm_to_fib6_config
		return r, refuse("EINVAL", "Invalid dsfield (tos): option not available for IPv6")
	case r.Dst != r.Dst.Masked():
		return r, unpredictable("%s has bits beyond its length, which the kernel would drop", r.Dst)
	case r.Metric == 0:
		return r, unpredictable("an IPv6 route of metric 0, which the kernel would give another")
	case rejects(r.Type) && (len(r.Hops) > 1 || len(r.Hops) == 1 && r.Hops[0].Onlink):
		return r, unpredictable("a %s route with hops: %s", r.Type, r)
	case !rejects(r.Type) && len(r.Hops) == 0:
		return r, refuse("ENODEV", "")
	}
	if rejects(r.Type) { // fib6_nh_init: on lo, and its hop is not looked at
		r.Hops = nil
		return r, w.source6(r, "lo")
	}
	if len(r.Hops) > 1 && slices.ContainsFunc(r.Hops, func(h resource.Hop) bool { return !h.Via.IsValid() }) { // rtm_to_fib6_multipath_config
		return r, refuse("EINVAL", "Device only routes can not be added for IPv6 using the multipath API.")
	}
	for i := range r.Hops { // each is a route of its own, up to the last check
		h, err := w.nexthop6(r, r.Hops[i])
		if err == nil {
			err = w.source6(r, h.Dev)
		}
		if err == nil {
			err = sibling6(r.Hops[:i], h)
		}
		if err != nil {
			return r, err
		}
		r.Hops[i] = h
	}
	return r, nil
}

// nexthop6 returns h as the kernel would resolve it (fib6_nh_init).
func (w *kernel) nexthop6(r resource.Route, h resource.Hop) (resource.Hop, error) {
	if h.Onlink {
		if h.Dev == "" {
			return h, refuse("ENODEV", "Nexthop device required for onlink")
		}
		if !w.up(h.Dev) {
			return h, refuse("ENETDOWN", "Nexthop device is not up")
		}
	}
	if h.Via.IsValid() {
		var err error
		if h, err = w.gateway6(r, h); err != nil {
			return h, err
		}
	}
	switch {
	case h.Dev == "":
		return h, refuse("ENODEV", "")
	case !w.up(h.Dev) && !w.disabled6(h.Dev):
		return h, refuse("ENETDOWN", "Nexthop device is not up")
	case !w.up(h.Dev) || !w.enabled6(h.Dev):
		return h, refuse("EACCES", "IPv6 is disabled on nexthop device")
	}
	return h, nil
}

// gateway6 checks a gateway and finds its link (ip6_validate_gw).
func (w *kernel) gateway6(r resource.Route, h resource.Hop) (resource.Hop, error) {
	given := h.Dev != ""
	if given && w.own6(h.Via, h.Dev, !h.Via.IsLinkLocalUnicast()) {
		return h, refuse("EINVAL", "Gateway can not be a local address")
	}
	if !h.Via.IsLinkLocalUnicast() {
		if h.Via.IsMulticast() || h.Via.IsUnspecified() {
			return h, refuse("EINVAL", "Invalid gateway address")
		}
		var err error
		if h.Onlink {
			err = w.onlinkGateway6(h)
		} else {
			h, err = w.byDetour(r, h, w.reach6)
		}
		if err != nil {
			return h, err
		}
	}
	if h.Dev == "" {
		return h, refuse("EINVAL", "Egress device not specified")
	}
	l, err := w.link(h.Dev)
	switch {
	case l.Type == "loopback":
		return h, refuse("EINVAL", "Egress device can not be loopback device for this route")
	case err != nil:
		return h, err
	case !given && w.own6(h.Via, h.Dev, true):
		return h, refuse("EINVAL", "Gateway can not be a local address")
	}
	return h, nil
}

// onlinkGateway6 checks a gateway that is said to be on the link: what main
// says of it must not be against that (ip6_route_check_nh_onlink).
func (w *kernel) onlinkGateway6(h resource.Hop) error {
	r, hop, ok := w.lookup6(h.Via, resource.TableMain, h.Dev, false)
	if ok && !leadsNowhere6(r) && !r.Dst.Addr().IsUnspecified() && (r.Type != resource.Unicast || hop.Dev != h.Dev) {
		return refuse("EINVAL", "Nexthop has invalid gateway or device mismatch")
	}
	return nil
}

// leadsNowhere6 reports whether the kernel has r for one that rejects packets:
// so it has one to a subnet that is on lo (fib6_is_reject).
func leadsNowhere6(r resource.Route) bool {
	onLo := func(h resource.Hop) bool { return h.Dev == "lo" }
	return rejects(r.Type) || r.Type == resource.Unicast && slices.ContainsFunc(r.Hops, onLo)
}

// reach6 returns h with the link on which its gateway is a neighbour, as the
// route's own table says, or else the tables to which the node's rules lead
// (ip6_route_check_nh). These suppress nothing here.
func (w *kernel) reach6(r resource.Route, h resource.Hop) (resource.Hop, error) {
	neighbour := func(found resource.Route, hop resource.Hop) bool {
		return !leadsNowhere6(found) && !hop.Via.IsValid() && (h.Dev == "" || h.Dev == hop.Dev)
	}
	found, hop, ok := w.lookup6(h.Via, r.Table, h.Dev, true)
	if !ok || !neighbour(found, hop) {
		var err error
		if found, hop, ok, err = w.full6(h); err != nil {
			return h, err
		}
	}
	switch {
	case ok && found.NHID != 0:
		return h, unpredictable("the gateway %s is reached by a nexthop object: %s", h.Via, found)
	case ok && h.Dev == "" && w.onLinks6(h.Via, found):
		return h, unpredictable("over which link the gateway %s is reached: the kernel has a route to it over several", h.Via)
	case !ok || !neighbour(found, hop):
		return h, refuse("EHOSTUNREACH", "")
	}
	h.Dev = hop.Dev
	return h, nil
}

// onLinks6 reports whether the kernel has routes like r, which leads to a, over other links
// too: it tries them in an order that nothing tells.
func (w *kernel) onLinks6(a netip.Addr, r resource.Route) bool {
	return r.ByLink() && slices.ContainsFunc(w.covering(a, r.Table), func(o resource.Route) bool {
		return o.ByLink() && o.Dst == r.Dst && o.Metric == r.Metric && o.Hops[0].Dev != r.Hops[0].Dev
	})
}

// full6 is fib6_lookup: where the rules of the node lead the gateway of h. The
// kernel asks its rules from the first on that was added; a node that has only
// lost rules may be one to which none ever was.
func (w *kernel) full6(h resource.Hop) (found resource.Route, hop resource.Hop, ok bool, err error) {
	errno, err := w.follow(flow{h.Via, h.Dev}, func(rule resource.Rule) string {
		if found, hop, ok = w.lookup6(h.Via, rule.Table, h.Dev, true); !ok {
			return again
		}
		return ""
	})
	ok = errno == ""
	if err != nil || !w.lostRules(6) {
		return found, hop, ok, err
	}
	usual, usualHop, usually := w.lookup6(h.Via, resource.TableLocal, h.Dev, true)
	if !usually {
		usual, usualHop, usually = w.lookup6(h.Via, resource.TableMain, h.Dev, true)
	}
	if ok != usually || ok && (!equal(found, usual) || !reflect.DeepEqual(hop, usualHop)) {
		err = unpredictable("the gateway %s: it matters whether the node ever had policy rules of its own", h.Via)
	}
	return found, hop, ok, err
}

// lookup6 finds the route for dst in table (fib6_table_lookup): with strict
// only over dev, without it preferably so; a dev of "" is any.
func (w *kernel) lookup6(dst netip.Addr, table resource.Table, dev string, strict bool) (resource.Route, resource.Hop, bool) {
	var best resource.Route
	var hop resource.Hop
	found := false
	for _, r := range w.covering(dst, table) {
		if r.Src.IsValid() {
			continue
		}
		if found && (r.Dst != best.Dst || r.Metric != best.Metric) {
			break // best is of a longer prefix, or a lower metric
		}
		for _, h := range hops6(r) {
			onDev := dev == "" || h.Dev == dev
			// What is there of a link that is down was made since: the route to an address of its own.
			if strict && !onDev || h.Dev != "lo" && r.Type != resource.Local && !w.up(h.Dev) {
				continue
			}
			if !found || onDev && dev != "" && hop.Dev != dev {
				best, hop, found = r, h, true
			}
		}
	}
	return best, hop, found
}

// hops6 returns the hops of r as the kernel has them: it keeps blackholes on lo.
func hops6(r resource.Route) []resource.Hop {
	if rejects(r.Type) {
		return []resource.Hop{{Dev: "lo"}}
	}
	return r.Hops
}

// own6 reports whether a is an address of the node: of dev, or, with anyLink or
// where it is a global one, of any link (ipv6_chk_addr_and_flags).
func (w *kernel) own6(a netip.Addr, dev string, anyLink bool) bool {
	w.look(resource.Selector{Kind: resource.KindAddr, Covers: a})
	for _, r := range w.state {
		addr, ok := r.(resource.Addr)
		if !ok || addr.Prefix.Addr() != a {
			continue
		}
		near := addr.Scope == resource.ScopeLink || addr.Scope == resource.ScopeHost
		if anyLink || addr.Dev == dev || !near {
			return true
		}
	}
	return false
}

// source6 checks the preferred source of r over dev: it must be an address of
// the node that is valid there (ip6_route_info_create).
func (w *kernel) source6(r resource.Route, dev string) error {
	if r.PrefSrc.IsValid() && !w.own6(r.PrefSrc, dev, false) {
		return refuse("EINVAL", "Invalid source address")
	}
	return nil
}

// sibling6 checks a resolved hop against those before it (ip6_route_info_append).
func sibling6(before []resource.Hop, h resource.Hop) error {
	if slices.ContainsFunc(before, func(o resource.Hop) bool { return o.Via == h.Via && o.Dev == h.Dev }) {
		return refuse("EEXIST", "")
	}
	return nil
}

// disabled6 reports whether dev is set not to speak IPv6, even where it is down.
func (w *kernel) disabled6(dev string) bool {
	l, _ := resource.Get[resource.Link](w.state, resource.LinkKey(dev))
	return l.Conf.DisableIPv6
}

// enabled6 reports whether dev, which is up, speaks IPv6.
func (w *kernel) enabled6(dev string) bool {
	w.look(multicast6)
	for _, r := range w.state {
		if route, ok := r.(resource.Route); ok && route.Match(multicast6) &&
			slices.ContainsFunc(route.Hops, func(h resource.Hop) bool { return h.Dev == dev }) {
			return true
		}
	}
	return false
}
