package sim

import (
	"net/netip"
	"reflect"
	"slices"

	"runbook/engine/resource"
)

// This file is the kernel's rules for IPv4 routes, in the order in which it
// asks them. The functions that they follow (net/ipv4/fib_semantics.c,
// fib_frontend.c, fib_trie.c) are named, so that a newer kernel can be compared.

const badGateway = "Nexthop has invalid gateway"

// newRoute4 returns r as the kernel would hold it, or the kernel's refusal.
//
// Main and local are one until a node gets policy rules of its own, and two
// from then on, also when those rules are gone again, which nothing tells any
// more. Where that matters, it does not guess.
func (w *kernel) newRoute4(r resource.Route) (resource.Route, error) {
	gateway := func(h resource.Hop) bool { return h.Via.IsValid() }
	if rejects(r.Type) || !r.PrefSrc.IsValid() && !slices.ContainsFunc(r.Hops, gateway) {
		return w.create4(r)
	}
	w.split = w.ownRules(4)
	out, err := w.create4(r)
	if w.split {
		return out, err
	}
	w.split = true
	other, err2 := w.create4(r)
	if !reflect.DeepEqual(err, err2) || err == nil && !equal(out, other) {
		return r, unpredictable("a route that main and local lead to differently, so that it matters whether the node ever had policy rules of its own: %s", r)
	}
	return out, err
}

// create4 is fib_create_info. Adding and replacing ask the same: what is
// replaced still counts while the gateway is resolved.
func (w *kernel) create4(r resource.Route) (resource.Route, error) {
	r.Hops = slices.Clone(r.Hops)
	if r.TOS&3 != 0 { // rtm_to_fib_config
		return r, refuse("EINVAL", "Invalid dsfield (tos): ECN bits must be 0")
	}
	if r.Dst != r.Dst.Masked() { // fib_valid_key_len
		return r, refuse("EINVAL", "Invalid prefix for given prefix length")
	}
	if rejects(r.Type) {
		if len(r.Hops) > 0 {
			return r, refuse("EINVAL", "Gateway, device and multipath can not be specified for this route type")
		}
		return r, nil // without a look at its scope or source
	}
	switch {
	case r.Scope > resource.ScopeHost:
		return r, refuse("EINVAL", "Invalid scope")
	case len(r.Hops) == 0:
		return r, refuse("ENODEV", "")
	case r.Scope == resource.ScopeHost:
		if err := hostScope(r); err != nil {
			return r, err
		}
	default:
		for i, h := range r.Hops {
			var err error
			if r.Hops[i], err = w.nexthop4(r, h); err != nil {
				return r, err
			}
		}
	}
	if r.PrefSrc.IsValid() && !w.local4(r.PrefSrc, r.Table) {
		return r, refuse("EINVAL", "Invalid prefsrc address")
	}
	return r, nil
}

// hostScope checks a route to the node itself. Its link need not be up.
func hostScope(r resource.Route) error {
	switch {
	case len(r.Hops) > 1:
		return refuse("EINVAL", "Route with host scope can not have multiple nexthops")
	case r.Hops[0].Via.IsValid():
		return refuse("EINVAL", "Route with host scope can not have a gateway")
	case r.Hops[0].Dev == "":
		return refuse("ENODEV", "")
	}
	return nil
}

// nexthop4 returns h as the kernel would resolve it (fib_check_nh).
func (w *kernel) nexthop4(r resource.Route, h resource.Hop) (resource.Hop, error) {
	switch {
	case !h.Via.IsValid():
		return h, w.onLink4(h)
	case h.Via.IsUnspecified():
		return h, unpredictable("the gateway %s", h.Via)
	case h.Via.Is6(): // fib_check_nh_v6_gw
		return w.nexthop6(r, h)
	case h.Onlink:
		return h, w.onlinkGateway4(r, h)
	default:
		return w.byDetour(r, h, w.gateway4)
	}
}

// onLink4 checks a hop without a gateway (fib_check_nh_nongw).
func (w *kernel) onLink4(h resource.Hop) error {
	if h.Onlink {
		return refuse("EINVAL", "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set")
	}
	if h.Dev == "" {
		return refuse("ENODEV", "")
	}
	if !w.up(h.Dev) {
		return refuse("ENETDOWN", "Device for nexthop is not up")
	}
	return nil
}

// onlinkGateway4 checks a gateway that is said to be on the link: it may be any
// address but one of the node's own (fib_check_nh_v4_gw).
func (w *kernel) onlinkGateway4(r resource.Route, h resource.Hop) error {
	switch {
	case r.Scope >= resource.ScopeLink:
		return refuse("EINVAL", "Nexthop has invalid scope")
	case h.Dev == "":
		return refuse("ENODEV", "Nexthop device required for onlink")
	case !w.up(h.Dev):
		return refuse("ENETDOWN", "Nexthop device is not up")
	case w.addrType4(h.Via, resource.TableLocal) != resource.Unicast:
		return refuse("EINVAL", badGateway)
	}
	return nil
}

// gateway4 resolves a gateway through the routes that there are
// (fib_check_nh_v4_gw). It must be nearer than the route itself. An address of
// the node itself is let through.
func (w *kernel) gateway4(r resource.Route, h resource.Hop) (resource.Hop, error) {
	scope := max(r.Scope+1, resource.ScopeLink)
	var found resource.Route
	var out resource.Hop
	errno := again
	if r.Table != resource.TableMain {
		found, out, errno = w.lookup4(h.Via, r.Table, scope, h.Dev)
	}
	if errno != "" { // not in its own table: the full look-up
		var err error
		if found, out, errno, err = w.full4(h.Via, scope, h.Dev); err != nil {
			return h, err
		}
	}
	switch {
	case errno == again:
		return h, refuse("ENETUNREACH", badGateway)
	case errno != "":
		return h, refuse(errno, badGateway)
	case found.Type != resource.Unicast && found.Type != resource.Local:
		return h, refuse("EINVAL", badGateway)
	}
	if found.NHID != 0 {
		return h, unpredictable("the gateway %s is reached by a nexthop object: %s", h.Via, found)
	}
	if _, err := w.link(out.Dev); err != nil {
		return h, err
	}
	if !w.up(out.Dev) { // an address of a link that is down is still the node's own
		return h, refuse("ENETDOWN", "")
	}
	h.Dev = out.Dev
	return h, nil
}

// full4 is fib_lookup: where the rules of the node lead. They are not asked
// where they are those of its start, and main and local are one.
func (w *kernel) full4(dst netip.Addr, scope resource.Scope, dev string) (found resource.Route, hop resource.Hop, errno string, err error) {
	if !w.split {
		found, hop, errno = w.lookup4(dst, resource.TableMain, scope, dev)
		if errno == again {
			found, hop, errno = w.lookup4(dst, resource.TableDefault, scope, dev)
		}
		return found, hop, errno, nil
	}
	errno, err = w.follow(flow{dst, dev}, func(r resource.Rule) string {
		if r.Table == 0 {
			return again
		}
		var errno string
		found, hop, errno = w.lookup4(dst, r.Table, scope, dev)
		if errno == "" && r.Suppress != nil && uint32(found.Dst.Bits()) <= *r.Suppress { // fib4_rule_suppress
			return again
		}
		return errno
	})
	return found, hop, errno, err
}

// again is the errno of a look-up that found nothing: the next table is asked.
const again = "EAGAIN"

// rejectErrno is what a look-up answers that ends at a route of this type.
var rejectErrno = map[resource.RouteType]string{
	resource.Blackhole:   "EINVAL",
	resource.Unreachable: "EHOSTUNREACH",
	resource.Prohibit:    "EACCES",
	resource.Throw:       again,
}

// lookup4 finds the route for dst in table, of at least this scope and, where
// dev is not "", over that link (fib_table_lookup). The errno is "" where it
// found one.
func (w *kernel) lookup4(dst netip.Addr, table resource.Table, scope resource.Scope, dev string) (resource.Route, resource.Hop, string) {
	for _, r := range w.table4(dst, table) {
		if r.TOS != 0 || r.Scope < scope {
			continue
		}
		if rejects(r.Type) {
			return r, resource.Hop{}, rejectErrno[r.Type]
		}
		for _, h := range r.Hops {
			if dev != "" && h.Dev != dev {
				continue
			}
			// A hop over a link that is down is dead, but not for the node's own addresses.
			if r.Scope == resource.ScopeHost || w.up(h.Dev) {
				return r, h, ""
			}
		}
	}
	return resource.Route{}, resource.Hop{}, again
}

// table4 returns the routes of table that cover dst. Until a node gets policy
// rules of its own, main and local are one: the local of two equal prefixes
// comes first.
func (w *kernel) table4(dst netip.Addr, table resource.Table) []resource.Route {
	if w.split || table != resource.TableMain && table != resource.TableLocal {
		return w.covering(dst, table)
	}
	all := append(w.covering(dst, resource.TableLocal), w.covering(dst, resource.TableMain)...)
	slices.SortStableFunc(all, func(a, b resource.Route) int { return b.Dst.Bits() - a.Dst.Bits() })
	return all
}

// local4 reports whether a is an address of the node, as table or the local
// table sees it (fib_valid_prefsrc).
func (w *kernel) local4(a netip.Addr, table resource.Table) bool {
	return w.addrType4(a, table) == resource.Local || w.addrType4(a, resource.TableLocal) == resource.Local
}

// addrType4 says what a is to the node (inet_addr_type_table).
func (w *kernel) addrType4(a netip.Addr, table resource.Table) resource.RouteType {
	switch {
	case a.As4()[0] == 0 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return resource.Broadcast
	case a.IsMulticast():
		return resource.Multicast
	}
	if r, _, errno := w.lookup4(a, table, 0, ""); errno == "" {
		return r.Type
	}
	return resource.Unicast
}
