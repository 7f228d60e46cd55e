package sim

import (
	"net/netip"
	"slices"

	"runbook/engine/resource"
)

// This file is the kernel's rules for IPv6 addresses, in the order in which it
// asks them. The functions that they follow (net/ipv6/addrconf.c, route.c) are
// named, so that a newer kernel can be compared. An address is taken to be past
// its duplicate address detection.

// prefixMetric is the metric of a prefix route where the address gives none.
const prefixMetric = 256

// newAddr6 adds a (inet6_rtm_newaddr, inet6_addr_add, ipv6_add_addr).
func (w *kernel) newAddr6(l resource.Link, a resource.Addr) error {
	list, ip := w.addrs(a.Dev, 6), a.Prefix.Addr()
	switch {
	case slices.ContainsFunc(list, func(o resource.Addr) bool { return o.Prefix.Addr() == ip }):
		return refuse("EEXIST", "ipv6: address already assigned")
	case l.MTU < 1280:
		return unpredictable("an IPv6 address on %s, whose MTU is less than IPv6 needs", a.Dev)
	case l.Type == "loopback" && !w.own6(netip.IPv6Loopback(), l.Name, false): // its settings are not read
		return unpredictable("an IPv6 address on %s, which has not even its own", a.Dev)
	case l.Conf.DisableIPv6 || l.Up && l.Type != "loopback" && !w.enabled6(l.Name):
		return refuse("EACCES", "ipv6: IPv6 is disabled on this device")
	case ip.IsUnspecified():
		return refuse("EADDRNOTAVAIL", "ipv6: Invalid address")
	case ip.IsMulticast():
		return refuse("EADDRNOTAVAIL", `ipv6: Cannot assign multicast address without "IFA_F_MCAUTOJOIN" flag`)
	case ip.IsLoopback() && l.Type != "loopback":
		return refuse("EADDRNOTAVAIL", "ipv6: Cannot assign loopback address on this device")
	}
	if l.Up && !l.Carrier && detects(l, a) {
		return unpredictable("an IPv6 address on %s, which has no carrier: duplicate address detection waits for it", a.Dev)
	}
	if w.toRouters6(l, a) {
		return unpredictable("the address %s, which is also that of a subnet's routers: the kernel has one route for both", a)
	}
	a.Scope = scope6(ip)
	w.look(resource.Selector{Kind: resource.KindRoute, PrefSrc: ip}) // it goes when the address does
	w.arrange(resource.InsertAddr(list, a))                          // ipv6_link_dev_addr
	w.addRoutes6(l, a)
	return nil
}

// addRoutes6 makes the routes of a: all where l is up, and where it is not, the one to a
// itself if nothing has to be detected first.
func (w *kernel) addRoutes6(l resource.Link, a resource.Addr) {
	if l.Up && !a.NoPrefixRoute {
		w.addRoute6(a, a.Prefix.Masked())
	}
	if !l.Up && detects(l, a) {
		return
	}
	here := func(o resource.Route) bool { return onLink6(o, a.Dev) }
	w.appendRoute(kernelRoute(a.Dev, one(a.Prefix.Addr()), resource.Local, resource.TableLocal), here)
	if any, routed := anycast(l, a); routed { // addrconf_join_anycast
		w.appendRoute(any, here)
	}
	if l.Up && a.Peer.IsValid() {
		w.addRoute6(a, one(a.Peer.Addr()))
	}
}

// routed6 reports whether there is a route to a itself. On a link that is down one
// that was kept has none, and one that was added has.
func (w *kernel) routed6(a resource.Addr) bool {
	own := resource.Selector{Kind: resource.KindRoute, Dst: one(a.Prefix.Addr()), Table: resource.TableLocal}
	return slices.ContainsFunc(w.routes(own), func(r resource.Route) bool { return onLink6(r, a.Dev) })
}

// anycast is the route to the subnet's routers that a router has for a.
func anycast(l resource.Link, a resource.Addr) (resource.Route, bool) {
	net := a.Prefix.Masked()
	return kernelRoute(a.Dev, one(net.Addr()), resource.Anycast, resource.TableLocal),
		l.Conf.Forwarding6 && net.Bits() < 127 && !net.Addr().IsUnspecified()
}

// toRouters6 reports whether a is itself, on l, the address of the routers of a subnet.
func (w *kernel) toRouters6(l resource.Link, a resource.Addr) bool {
	own := one(a.Prefix.Addr())
	any, routed := anycast(l, a)
	return routed && any.Dst == own || slices.ContainsFunc(w.routes(resource.Selector{Kind: resource.KindRoute, Dst: own, Table: resource.TableLocal}), func(r resource.Route) bool {
		return r.Type == resource.Anycast && onLink6(r, l.Name)
	})
}

// detects reports whether a is not usable on l before duplicate address detection has ended.
func detects(l resource.Link, a resource.Addr) bool {
	return a.Family() == 6 && !l.Conf.NoDAD && !l.NoARP && l.Type != "loopback" && a.Flags&flagNoDAD == 0
}

// scope6 is the scope that the kernel shows for an IPv6 address.
func scope6(a netip.Addr) resource.Scope {
	switch b := a.As16(); {
	case a.IsLoopback():
		return resource.ScopeHost
	case a.IsLinkLocalUnicast():
		return resource.ScopeLink
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return resource.ScopeSite
	default:
		return resource.ScopeGlobal
	}
}

// onLink6 reports whether one of the hops of r is dev itself (rt6_duplicate_nexthop).
func onLink6(r resource.Route, dev string) bool {
	return r.NHID == 0 && slices.ContainsFunc(hops6(r), func(h resource.Hop) bool { return h.Dev == dev && !h.Via.IsValid() })
}

// addRoute6 adds the route to a subnet of a, which another address may have
// made already (addrconf_prefix_route).
func (w *kernel) addRoute6(a resource.Addr, dst netip.Prefix) {
	r := kernelRoute(a.Dev, dst, resource.Unicast, resource.TableMain)
	if r.Metric = a.Metric; r.Metric == 0 {
		r.Metric = prefixMetric
	}
	w.appendRoute(r, func(o resource.Route) bool { return onLink6(o, a.Dev) })
}

// goneAddr6 deletes a (ipv6_del_addr).
func (w *kernel) goneAddr6(l resource.Link, a resource.Addr) error {
	for _, o := range w.addrs(a.Dev, 6) { // of which one that is put back in its place may move others
		if !l.Up && !detects(l, o) && !w.routed6(o) {
			return unpredictable("taking %s away could not be taken back: %s was kept when %s went down, and an address that is added gets a route to itself", a, o, a.Dev)
		}
	}
	list := slices.DeleteFunc(w.addrs(a.Dev, 6), func(o resource.Addr) bool { return o.Key() == a.Key() })
	prefixGoes := !a.NoPrefixRoute
	for _, o := range list { // check_cleanup_prefix_route
		if o.Prefix.Masked() != a.Prefix.Masked() {
			continue
		}
		if !o.Permanent && !o.NoPrefixRoute {
			return unpredictable("the prefix route of %s would get the lifetime of %s", a, o)
		}
		prefixGoes = false
	}
	w.set(a.Key(), nil)
	w.arrange(list)

	main := resource.TableMain
	if a.Peer.IsValid() { // __ipv6_ifa_notify
		w.dropFirst(one(a.Peer.Addr()), main, func(r resource.Route) bool { return firstOver6(r, a.Dev) && !r.Src.IsValid() })
	}
	if any, routed := anycast(l, a); routed && !slices.ContainsFunc(list, func(o resource.Addr) bool {
		other, too := anycast(l, o)
		return too && other.Dst == any.Dst
	}) {
		w.dropFirst(any.Dst, any.Table, func(r resource.Route) bool { return r.Type == any.Type && onLink6(r, a.Dev) })
	}
	w.dropFirst(one(a.Prefix.Addr()), resource.TableLocal, func(r resource.Route) bool {
		return r.Type == resource.Local && onLink6(r, a.Dev)
	})
	if prefixGoes { // addrconf_get_prefix_route takes the first, whoever made it
		w.dropFirst(a.Prefix.Masked(), main, func(r resource.Route) bool { return onLink6(r, a.Dev) && !r.Src.IsValid() })
	}
	return w.withoutSource6(a.Prefix.Addr())
}

// firstOver6 reports whether r leads over dev.
func firstOver6(r resource.Route, dev string) bool {
	return r.NHID == 0 && slices.ContainsFunc(hops6(r), func(h resource.Hop) bool { return h.Dev == dev })
}

// withoutSource6 takes the source from the routes that suggest the address a,
// which is gone; the routes stay (rt6_remove_prefsrc).
func (w *kernel) withoutSource6(a netip.Addr) error {
	for _, r := range w.routes(resource.Selector{Kind: resource.KindRoute, PrefSrc: a}) {
		valid := func(h resource.Hop) bool { return w.own6(a, h.Dev, false) }
		hops := hops6(r)
		switch {
		case r.NHID != 0 || slices.ContainsFunc(hops, valid) && slices.ContainsFunc(hops, func(h resource.Hop) bool { return !valid(h) }):
			return unpredictable("a route that loses its source in part: %s", r)
		case !slices.ContainsFunc(hops, valid):
			r.PrefSrc = netip.Addr{}
			w.set(r.Key(), r)
		}
	}
	return nil
}
